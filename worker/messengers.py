"""Messages to people through Apprise (https://github.com/caronc/apprise), which reaches over a hundred services, each
named by a URL: ``slack://...``, ``mailtos://...``, ``json://...``.

    messenger = Messenger("channel 1", url)  # ValueError for a URL that can't be used
    why_not = await messenger.send("Title", "Text")  # None: it was taken

The URLs are secrets. Nothing here shows one: not an error, not a log line, nor those of Apprise and of what it calls.
Certificates are verified, redirects are not followed, nothing is written to disk. A message has ``LONGEST`` seconds;
sent by a thread of Apprise's, which can't be stopped, so one that takes longer may still arrive.
"""

from __future__ import annotations

import functools
import logging
import re
import warnings
from typing import Any, Final

from worker.errors import ConfigurationError
from worker.wording import one_line

LONGEST: Final = 20.0  # seconds for a message; each connect and read has 4, or the URL's own cto= and rto=

_TAKEN: Final = 0
_TIMED_OUT: Final = 5
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://\S")
_BETWEEN: Final = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_MAIL: Final = frozenset({"mailto", "mailtos"})
# In these, what Apprise sends as plain text is read as Markdown by whoever shows it.
_READ_AS_MARKDOWN: Final = frozenset({"discord", "guilded", "mmost", "mmosts", "revolt"})
_MARKUP: Final = re.compile(r"([\\`*_~|\[\]()#>])")
# A mention: of all, by word; or of anybody, by the marks of Slack, Discord and others.
_MENTION: Final = re.compile(r"(@(?=\w)|<(?=[@!#&:a-z/]))", re.IGNORECASE)
_APART: Final = "\u200b"  # no width, and no word goes over it


def urls_in(text: str) -> list[str]:
    """The URLs of a list with commas or spaces between them. Commas within one stay: a list of addresses, say."""
    return [url.rstrip(", \t\r\n") for url in _BETWEEN.split(text.strip(" ,\t\r\n")) if url]


def scheme_of(url: str) -> str:
    """What may be said of a URL: ``slack``; or ``?`` if it is none."""
    found = _URL.match(url)
    return found[1].lower() if found else "?"


class Messenger:
    """One recipient: a URL, called ``name``. ``str()`` is what may be shown: ``channel 1 (slack)``.

    Raises ``ValueError``, without the URL, for one that Apprise does not understand or that would not be safe.
    """

    def __init__(self, name: str, url: str) -> None:
        apprise = _apprise()
        self.name = name
        self.scheme = scheme_of(url)
        service = apprise.Apprise.instantiate(url, asset=_asset(apprise))
        if service is None:
            raise ValueError(f"({self.scheme}://) is no URL that Apprise can use")
        if not service.verify_certificate:
            raise ValueError(f"({self.scheme}://) must not switch off verify: put your authority in REQUESTS_CA_BUNDLE")
        if "overflow=" not in url:
            # Otherwise what is too long for a service is refused by it, for ever.
            service.overflow_mode = apprise.OverflowMode.SPLIT
        self._text = apprise.NotifyFormat.TEXT
        self._service = apprise.Apprise(service)

    def __str__(self) -> str:
        return f"{self.name} ({self.scheme})"

    async def send(self, title: str, text: str) -> str | None:
        """None if the service took the message; else why not, in a few words that may be shown. Never raises but when
        it is cancelled."""
        result = await self._service.async_notify(
            title=title, body=text, body_format=self._text, interpret_escapes=False, log_level=logging.WARNING
        )
        if result.status == _TAKEN:
            return None
        said = [entry.message for each in result.results for entry in each.logs()]
        why = "no answer in time" if result.status == _TIMED_OUT else "not taken"
        return next((each for each in said if each.startswith("answered")), why)

    def inert(self, text: str) -> str:
        """``text`` from somebody else, as text: it mentions nobody and is no markup."""
        if self.scheme in _MAIL:
            return one_line(text)
        calm = _MENTION.sub(rf"\1{_APART}", one_line(text))
        return _MARKUP.sub(r"\\\1", calm) if self.scheme in _READ_AS_MARKDOWN else calm.replace("](", f"]{_APART}(")


@functools.cache
def _apprise() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the modules that it still knows
        try:
            import apprise
        except ModuleNotFoundError:
            problem, remedy = "Apprise is not installed", "pip install 'handoff[notify]'"
            raise ConfigurationError("HANDOFF_NOTIFY_URLS", problem, remedy) from None
        _hush()
        apprise.Apprise.instantiate("json://localhost")  # loads the services
    return apprise


def _asset(apprise: Any) -> Any:
    return apprise.AppriseAsset(
        app_id="Handoff",
        app_desc="Handoff",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        storage_mode="memory",
        http_redirects=False,
        interpret_emojis=False,
        service_timeout=LONGEST,
    )


class _Discreet(logging.Filter):
    """Leaves of a line the status that it tells of: Apprise's have parts of URLs in them, whole ones that it does not
    understand, and what services answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        status = re.search(r"\berror\s*=\s*([1-9]\d\d)\b", record.getMessage())
        record.msg, record.args = (f"answered {status[1]}" if status else "not taken"), None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _hush() -> None:
    theirs = logging.getLogger("apprise")
    theirs.setLevel(logging.WARNING)
    theirs.addFilter(_Discreet())
    theirs.addHandler(logging.NullHandler())
    theirs.propagate = False  # it is told by ``send``
    # Below it, what Apprise calls logs paths and headers: in Slack's URL the path is the secret.
    for name in ("urllib3", "requests_oauthlib", "oauthlib"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
