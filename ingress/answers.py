"""Answers, ready to send: each is made once, but for its date and whether the connection goes on."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

_CLOSE: Final = b"connection: close\r\n"


class Answer:
    """``code`` is what metrics call it: a word of ours. ``body`` goes out as it is, with its length."""

    __slots__ = ("_date", "_head", "_usual", "body", "code", "headers", "status")

    def __init__(self, status: int, code: str, headers: list[tuple[str, str]] | None = None, body: bytes = b"") -> None:
        self.status = status
        self.code = code
        self.headers = headers or []
        self.body = body
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        self._date = self._usual = b""  # what was made last, and for which date
        self._head = "\r\n".join([*lines, f"content-length: {len(body)}", "date: "]).encode()

    def rendered(self, date: bytes, *, close: bool = False, bodiless: bool = False) -> bytes:
        """As it goes over the wire. ``bodiless`` is what HEAD is answered."""
        if close or bodiless:
            return b"%b%b\r\n%b\r\n%b" % (self._head, date, _CLOSE if close else b"", b"" if bodiless else self.body)
        if date is not self._date:
            self._date = date
            self._usual = b"%b%b\r\n\r\n%b" % (self._head, date, self.body)
        return self._usual


def refusal(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """An answer whose body is ``{"error": {"code", "message"}}``."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Answer(status, code, [("content-type", "application/json"), *headers], body)
