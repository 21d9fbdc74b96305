"""Signatures: every verdict, every malformed header, and properties over all of them."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.signature import FUTURE_SKEW, Verdict, sign, verify

SECRET = b"ibt_wh_test"
AT = 1705312200
# The body, secret and time of the provider's own SDK's tests (PROVIDER.md 1).
BODY = json.dumps(
    {
        "id": "evt_1",
        "seq": 42,
        "type": "message.received",
        "apiVersion": "2",
        "createdAt": "2026-09-14T10:32:00.000Z",
        "object": {"type": "message", "id": "m1", "url": "/messages/m1"},
        "data": {"threadId": "t1"},
    },
    separators=(",", ":"),
).encode()
HEX = sign(BODY, SECRET, AT).partition("v1=")[2]


def judge(
    header: str | None, body: bytes = BODY, *secrets: bytes, now: float = AT + 10, max_age: float = 300
) -> Verdict:
    return verify(header, body, secrets or (SECRET,), now=now, max_age=max_age)


def test_signs_as_the_provider_documents() -> None:
    expected = hmac.new(SECRET, b"1705312200." + BODY, hashlib.sha256).hexdigest()
    assert sign(BODY, SECRET, AT) == f"t=1705312200,v1={expected}"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"t={AT},v1={HEX}", id="as documented"),
        pytest.param(f"v1={HEX},t={AT}", id="any order"),
        pytest.param(f" t={AT} , v1={HEX} ", id="blanks around the fields"),
        pytest.param(f"t={AT},v1={'0' * 64},v1={HEX}", id="several signatures, the second ours"),
        pytest.param(f"t={AT},v1={HEX},v1=rubbish", id="several signatures, one of them no HMAC"),
        pytest.param(f"t={AT},v0=x,v1={HEX},v2=y,,k", id="fields of versions to come"),
        pytest.param(f"t={AT},t=1,v1={HEX}", id="the first t counts, as in the SDK"),
    ],
)
def test_accepts(header: str) -> None:
    assert judge(header) is Verdict.OK


@pytest.mark.parametrize("header", [None, ""])
def test_a_header_that_is_not_there_is_missing(header: str | None) -> None:
    assert judge(header) is Verdict.MISSING


@pytest.mark.parametrize(
    "header",
    [
        " ",
        ",",
        "=",
        "rubbish",
        f"t={AT}",
        f"v1={HEX}",
        "v1=abc",
        f"t=,v1={HEX}",
        f"t,v1={HEX}",
        f"t=-{AT},v1={HEX}",
        f"t={AT}.0,v1={HEX}",
        f"t= {AT},v1={HEX}",
        f"t=1e9,v1={HEX}",
        f"t=0x10,v1={HEX}",
        f"t=\u0661\u0662\u0663,v1={HEX}",
        f"t=\u00b2,v1={HEX}",
        f"t={'9' * 16},v1={HEX}",
        f"t={'9' * 5000},v1={HEX}",
        f"T={AT},v1={HEX}",
        f"t={AT},V1={HEX}",
        f"t={AT},v1=",
        f"t={AT},v1={HEX[:-1]}",
        f"t={AT},v1={HEX}0",
        f"t={AT},v1={HEX.upper()}",
        f"t={AT},v1={'g' * 64}",
        f"t={AT},v1=" + "\u00e9" * 64,
        f"t={AT};v1={HEX}",
        f"t={AT},v1={HEX}," + "x" * 4096,
        "\ud800",
    ],
)
def test_a_header_that_says_nothing_usable_is_malformed(header: str) -> None:
    assert judge(header) is Verdict.MALFORMED


@pytest.mark.parametrize(
    ("header", "body", "secrets"),
    [
        pytest.param(f"t={AT},v1={HEX}", BODY + b" ", (SECRET,), id="the body was changed"),
        pytest.param(f"t={AT},v1={HEX}", b"", (SECRET,), id="the body was taken away"),
        pytest.param(f"t={AT + 1},v1={HEX}", BODY, (SECRET,), id="the time was changed"),
        pytest.param(f"t=0{AT},v1={HEX}", BODY, (SECRET,), id="the time was written in another way"),
        pytest.param(f"t={AT},v1={HEX}", BODY, (b"another secret",), id="another secret"),
        pytest.param(f"t={AT},v1={HEX}", BODY, (SECRET.removeprefix(b"ibt_wh_"),), id="the prefix is part of the key"),
        pytest.param(f"t={AT},v1={'0' * 64}", BODY, (SECRET, b"old"), id="none of several"),
    ],
)
def test_what_no_secret_of_ours_has_signed_is_forged(header: str, body: bytes, secrets: tuple[bytes, ...]) -> None:
    assert judge(header, body, *secrets) is Verdict.FORGED


def test_without_any_secret_everything_is_forged() -> None:
    assert verify(f"t={AT},v1={HEX}", BODY, (), now=AT, max_age=300) is Verdict.FORGED


@pytest.mark.parametrize("secrets", [(SECRET, b"new one"), (b"new one", SECRET)])
def test_any_of_several_secrets_will_do(secrets: tuple[bytes, ...]) -> None:
    assert judge(f"t={AT},v1={HEX}", BODY, *secrets) is Verdict.OK


@pytest.mark.parametrize(
    ("now", "max_age", "verdict"),
    [
        (AT, 300, Verdict.OK),
        (AT + 300, 300, Verdict.OK),
        (AT + 301, 300, Verdict.STALE),
        (AT + 301, 600, Verdict.OK),
        (AT + 21900, 21900, Verdict.OK),
        (AT + 21901, 21900, Verdict.STALE),
        (AT + 1, 0, Verdict.STALE),
        (AT - FUTURE_SKEW, 300, Verdict.OK),
        (AT - FUTURE_SKEW - 1, 300, Verdict.FUTURE),
        (AT - FUTURE_SKEW - 1, 10**9, Verdict.FUTURE),
    ],
)
def test_the_time_is_judged_to_the_second(now: float, max_age: float, verdict: Verdict) -> None:
    assert judge(f"t={AT},v1={HEX}", now=now, max_age=max_age) is verdict


@pytest.mark.parametrize("now", [AT + 10_000, AT - 10_000])
def test_old_and_forged_are_told_apart(now: float) -> None:
    """A retry signed once is worth a setting; an attack is not."""
    assert judge(f"t={AT},v1={'0' * 64}", now=now) is Verdict.FORGED


FIELD = st.sampled_from(["t", "v1", "=", ",", " ", str(AT), HEX, "v1=" + HEX, f"t={AT}"]) | st.text(max_size=8)


@given(st.lists(FIELD, max_size=12).map("".join), st.binary(max_size=64))
def test_no_header_makes_it_raise_and_none_made_up_gets_in(header: str, body: bytes) -> None:
    assert judge(header, b"not the body" + body) in set(Verdict) - {Verdict.OK}


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=80), st.integers(0, 10**15 - 1))
def test_what_is_signed_is_accepted(body: bytes, secret: bytes, at: int) -> None:
    assert verify(sign(body, secret, at), body, (secret,), now=at, max_age=0) is Verdict.OK


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_single_changed_bit_is_noticed(body: bytes, data: st.DataObject) -> None:
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert judge(sign(body, SECRET, AT), bytes(changed)) is Verdict.FORGED


@given(st.permutations([f"t={AT}", f"v1={HEX}", f"v1={'1' * 64}", "x=y", ""]), st.sampled_from(["", " ", "\t"]))
def test_the_order_of_fields_and_blanks_do_not_matter(fields: list[str], blank: str) -> None:
    assert judge(",".join(blank + field + blank for field in fields)) is Verdict.OK
