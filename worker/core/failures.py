"""What an exception that a handler did not mean as an answer says about the job: the default policy, as a table.

| the call ended in | then | the far side's trouble |
|---|---|---|
| 408, 425, 429, 5xx | again, after ``Retry-After`` if it says so, else after the backoff | yes |
| no answer: connection, transport, time limit | again after the backoff | yes |
| 401, 402, 403, 407, 421, 3xx | again: a token, an account or an address is wrong, and not the job | yes |
| 409, 423, 424 | again: what is in the way may go | no |
| any other 4xx | dead letter at once, unless it has a ``Retry-After`` | no |
| anything else | again after the backoff | no |

401 and its like are no dead letters because an expired token would make one of every waiting job within seconds.

Exceptions are known by what they look like, so that no HTTP library has to be there: a status and headers on
``error.response`` (httpx, requests, botocore) or on the error itself (aiohttp, urllib, urllib3), and the names of their
classes and base classes. An error that was raised ``from`` another is judged by that one where it tells of no answer
itself, and a group of several by all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from worker.core.retry import Failure
from worker.core.retry_after import retry_after

BUSY: Final = frozenset({408, 425, 429})
MISCONFIGURED: Final = frozenset({401, 402, 403, 407, 421})
IN_THE_WAY: Final = frozenset({409, 423, 424})

UNANSWERED: Final = frozenset(
    {
        *("ConnectionError", "TimeoutError", "gaierror", "SSLError", "CallTimeout"),  # Python's, redis-py's and ours
        *("TransportError", "Timeout", "ChunkedEncodingError"),  # httpx, requests
        *("ClientConnectionError", "ClientPayloadError"),  # aiohttp
        *("URLError", "BadStatusLine", "IncompleteRead", "ProtocolError", "MaxRetryError"),  # urllib, urllib3
        *("HTTPClientError", "OperationalError"),  # botocore; databases, kombu
    }
)
"""Names of classes that mean that no answer came, of whatever library: any of an exception's base classes counts."""

MOST: Final = 100  # errors within one


def classify(error: BaseException, now: float) -> Failure:
    """The default policy for ``error``. ``now`` is Unix seconds, for a ``Retry-After`` that is a date. Never raises."""
    try:
        return _classify(error, now)
    except Exception:  # noqa: BLE001 - what an error does when it is looked at must not lose the job's outcome
        return Failure()


def _classify(error: BaseException, now: float) -> Failure:
    chain = _chain(error)
    for each in chain:
        if isinstance(each, BaseExceptionGroup):
            return _together([classify(inner, now) for inner in each.exceptions[:MOST]])
        found = _answer(each)
        if found is not None:
            status, headers = found
            return _of_status(status, retry_after(headers, now))
    names = {base.__name__ for each in chain for base in type(each).__mro__}
    return Failure(outage=not UNANSWERED.isdisjoint(names))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that ``error``, or one that it was raised from, tells of. Never raises."""
    try:
        return next((found[0] for each in _chain(error) if (found := _answer(each)) is not None), None)
    except Exception:  # noqa: BLE001 - as above
        return None


def _chain(error: BaseException) -> list[BaseException]:
    chain, cause = [error], error.__cause__
    while cause is not None and len(chain) < MOST:
        chain.append(cause)
        cause = cause.__cause__
    return chain


def _together(failures: list[Failure]) -> Failure:
    """Calls made side by side: hopeless only if each is, and not before the last that named a time."""
    return Failure(
        permanent=all(failure.permanent for failure in failures),
        after=max((failure.after for failure in failures if failure.after is not None), default=None),
        outage=any(failure.outage for failure in failures),
    )


def _of_status(status: int, after: float | None) -> Failure:
    if status in BUSY or status in MISCONFIGURED or status >= 500 or status < 400:
        return Failure(after=after, outage=True)
    return Failure(permanent=status not in IN_THE_WAY and after is None, after=after)


def _answer(error: BaseException) -> tuple[int, object] | None:
    """Status and headers of the HTTP answer that an exception tells of."""
    for source in (_get(error, "response"), error, _get(error, "resp")):
        for status, headers in _readings(source):
            if isinstance(status, int) and not isinstance(status, bool) and 300 <= status <= 599:
                return int(status), headers
    return None


def _readings(source: object) -> Iterator[tuple[object, object]]:
    if source is None:  # not by its truth: an answer of requests is false when it is an error
        return
    headers = _get(source, "headers")
    if isinstance(source, dict):
        meta = source.get("ResponseMetadata")
        if isinstance(meta, dict):  # botocore
            yield meta.get("HTTPStatusCode"), meta.get("HTTPHeaders")
        headers = source if headers is None else headers  # httplib2
    for name in ("status_code", "status", "http_status"):
        yield _get(source, name), headers
    if headers is not None:  # a code alone may be anything
        yield _get(source, "code"), headers


def _get(source: object, name: str) -> Any:
    """An attribute of an object that may do anything when asked for it."""
    try:
        return getattr(source, name, None)
    except Exception:  # noqa: BLE001 - an error that can't be read is one that says nothing
        return None
