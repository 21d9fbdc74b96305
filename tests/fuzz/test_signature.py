"""Signatures nobody should have sent: never an exception, and accepted is what a second opinion accepts, no more."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from ingress.signature import FUTURE_SKEW, Verdict, sign, verify
from tests.fuzz import reference
from tests.fuzz.profile import examples

NOW = 1_800_000_000
MAX_AGE = 300.0
SECRETS = [b"ibt_wh_one", b"ibt_wh_two", b"k" * 100, "schlüssel".encode()]

bodies = st.binary(max_size=300)
times = st.one_of(
    st.integers(NOW - 310, NOW + 310),
    st.sampled_from([NOW - 300, NOW - 301, NOW + 300, NOW + 301, 0, 10**15, 10**14, -NOW]),
)
secrets = st.lists(st.sampled_from(SECRETS), max_size=3, unique=True)
blanks = st.sampled_from(["", "", "", " ", "\t", "  ", "\x1c", "\u2003", "\n", "\0"])


def judge(header: str | None, body: bytes, known: list[bytes]) -> Verdict:
    return verify(header, body, known, now=NOW, max_age=MAX_AGE)


def agreed(header: str | None, body: bytes, known: list[bytes]) -> Verdict:
    verdict = judge(header, body, known)
    expected = reference.accepts(header, body, known, NOW, MAX_AGE, FUTURE_SKEW)
    assert (verdict is Verdict.OK) is expected, (verdict, header)
    return verdict


ODD = ["", "t=1", "=", "9" * 16, "0" * 64, "é" * 64, "\uff11\uff12", "\u00b2", " 1"]


@st.composite
def headers(draw: st.DrawFn, body: bytes) -> str:
    """Fields that are right, nearly right and nonsense, in any order and number."""
    at = str(draw(times))
    fields = []
    for _ in range(draw(st.integers(1, 6))):
        right = sign(body, draw(st.sampled_from(SECRETS)), int(at)).split("v1=")[1]
        name = draw(st.sampled_from(["t", "t", "v1", "v1", "v1", "v0", "T", "v1 ", "", "v2"]))
        value: Any = draw(
            st.sampled_from(
                [at, at, right, right, right.upper(), right[:-1], right + "0", f"0{at}", f"+{at}", f"{at}.0", *ODD]
            )
            | st.text(max_size=10)
        )
        fields.append(f"{draw(blanks)}{name}{draw(st.sampled_from(['=', '=', '=', '', '==']))}{value}{draw(blanks)}")
    usual = [f"t={at}", f"v1={right}"]
    return ",".join([*draw(st.sampled_from([usual, [], usual[:1]])), *fields][:: draw(st.sampled_from([1, -1]))])


@examples(300)
@given(st.data(), bodies, secrets)
def test_any_fields_are_judged_as_the_second_opinion_does(data: st.DataObject, body: bytes, known: list[bytes]) -> None:
    agreed(data.draw(headers(body)), body, known)


@examples(200)
@given(st.none() | st.text(st.characters(), max_size=200) | st.text("t=v1,0aF ", max_size=300), bodies, secrets)
def test_any_text_at_all_is_judged(header: str | None, body: bytes, known: list[bytes]) -> None:
    agreed(header, body, known)
    for huge in ("t=" + "1" * 5000, "v1=" + "a" * 64 + ",", ",", "=", "t=1,v1=" + "a" * 64 + ",x"):
        agreed(huge * 1000, body, known)


@examples(100)
@given(bodies, st.sampled_from(SECRETS), st.integers(NOW - 300, NOW + 300))
def test_what_is_signed_is_accepted(body: bytes, secret: bytes, at: int) -> None:
    assert agreed(sign(body, secret, at), body, [b"another", secret]) is Verdict.OK


@examples(200)
@given(st.data(), st.binary(min_size=1, max_size=300), st.sampled_from(SECRETS))
def test_what_is_changed_afterwards_is_not(data: st.DataObject, body: bytes, secret: bytes) -> None:
    """One byte or character, anywhere: of the body, the time or the signature."""
    header = sign(body, secret, NOW)
    at = data.draw(st.integers(0, len(body) - 1), label="byte")
    other = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    for wrong in (other, body[:at], body + b"\0", b"." + body):
        assume(wrong != body)
        assert agreed(header, wrong, [secret]) is Verdict.FORGED
    at = data.draw(st.integers(0, len(header) - 1), label="character")
    new = data.draw(st.characters() | st.sampled_from("0123456789abcdefABCDEF,= "))
    assume(new != header[at])
    assert agreed(header[:at] + new + header[at + 1 :], body, [secret]) is not Verdict.OK
    assert agreed(header, body, [each for each in SECRETS if each != secret]) is Verdict.FORGED
