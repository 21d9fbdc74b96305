"""TLS to Redis and Valkey, as their URL says it, once for both libraries that read the URL.

    rediss://user:password@redis.internal:6380/0?ssl_ca_certs=/etc/ssl/redis-ca.pem

``ssl_ca_certs`` (a file) or ``ssl_ca_path`` (a directory) names who may have signed the server's certificate; without,
the system's authorities may. ``ssl_certfile`` and ``ssl_keyfile`` are what this side shows where the server asks.
``ssl_cert_reqs`` is ``required`` unless the URL says ``optional`` or ``none``; ``ssl_check_hostname=false`` takes a
certificate for any host.

Left to themselves the two differ: redis-py checks the server's certificate, and kombu, told nothing, accepts any, and
gives whoever has it the password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from worker.errors import ConfigurationError

SCHEMES: Final = ("rediss", "valkeys")
EXAMPLE: Final = "rediss://user:password@host:6380/0?ssl_ca_certs=/etc/ssl/redis-ca.pem"
_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_CHECKS: Final = ("required", "optional", "none")
_KNOWN: Final = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")

_SHOW: Final = "(ssl_certfile= and ssl_keyfile= in the URL)"
_TOLD: Final = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is not accepted: {why} (ssl_ca_certs= in the URL names the "
    "file of who may have signed it, and the URL's host must be one that it is for)",
    "CERTIFICATE_REQUIRED": f"the server wants a certificate of this side {_SHOW}",
    "UNKNOWN_CA": f"the server does not accept the certificate of this side {_SHOW}",
    "EOF occurred in violation": f"the server ended it, and may want a certificate of this side {_SHOW}",
}
"""What is in OpenSSL's texts, and what it means to an operator."""


def checked(setting: str, url: str) -> str:
    """``url`` with its TLS parameters as both libraries read them. Raises ``ConfigurationError`` for one that can't be
    used, which each of them would find out in a way of its own, late and with a traceback."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return url
    words = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in words.items():
        if name.startswith("ssl_") and name not in _KNOWN:
            raise ConfigurationError(setting, f"has no parameter {name}", f"there is: {', '.join(_KNOWN)}")
        if name in _FILES:
            _readable(setting, name, value)
    if "ssl_cert_reqs" in words:
        words["ssl_cert_reqs"] = words["ssl_cert_reqs"].lower().removeprefix("cert_")
        if words["ssl_cert_reqs"] not in _CHECKS:
            raise ConfigurationError(setting, "has an unknown ssl_cert_reqs", f"one of {', '.join(_CHECKS)}")
    if "ssl_check_hostname" in words:
        no = words["ssl_check_hostname"].lower() in {"false", "no", "n", "f", "0"}
        words["ssl_check_hostname"] = "false" if no else "true"
    if ("ssl_certfile" in words) != ("ssl_keyfile" in words):
        raise ConfigurationError(setting, "needs ssl_certfile and ssl_keyfile together", EXAMPLE)
    return urlunsplit(parts._replace(query=urlencode(words, safe="/:,")))


def for_kombu(url: str) -> str:
    """``url`` so that kombu checks the server's certificate, too, unless it says otherwise."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or "ssl_cert_reqs=" in parts.query:
        return url
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, "ssl_cert_reqs=required")))))


def in_words(error: BaseException) -> str:
    """What an error of a connection says of TLS, with the remedy; nothing if it is not about TLS."""
    text = str(error)
    for mark, told in _TOLD.items():
        if mark in text:
            why = text.rpartition("certificate verify failed: ")[2].partition(" (_ssl")[0].rstrip(".")
            return told.format(why=why)
    return ""


def _readable(setting: str, name: str, value: str) -> None:
    path = Path(value)
    try:
        if name == "ssl_ca_path":
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(setting, f"{name} can't be read: {error.strerror}", "name a file that can") from None
