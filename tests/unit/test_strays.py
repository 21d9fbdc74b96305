"""What is said of variables that nobody reads."""

from __future__ import annotations

from tests.handler_kit import loaded
from worker.ops.strays import strays


def told(**variables: str) -> list[str]:
    return list(strays({f"HANDOFF_{name}": value for name, value in variables.items()}))


def test_a_misspelt_variable_of_a_handler_that_is_off_is_told_with_the_one_that_puts_it_on() -> None:
    why = "has no effect: hubspot is off, for HANDOFF_HUBSPOT_TOKEN is not set"
    assert told(HUBSPOT_TOKN="pat-secret") == [f"HANDOFF_HUBSPOT_TOKN {why}"]
    assert told(HUBSPOT_TOKEN=" ", HUBSPOT_URL="https://x") == [f"HANDOFF_HUBSPOT_URL {why}"]


def test_a_misspelt_variable_of_a_handler_that_is_on_is_told() -> None:
    with loaded("jsonl", HANDOFF_JSONL_PATH="-"):
        assert told(JSONL_PATH="-", JSONL_INCLUDE="event", JSONL_FSINC="1") == [
            "HANDOFF_JSONL_FSINC has no effect: jsonl has no such setting (see handoff settings jsonl)"
        ]


def test_a_name_that_is_nearly_one_is_told_and_one_that_is_another_programs_is_not() -> None:
    assert told(HUBSPT_TOKEN="pat-secret", REDIS_ULR="redis://:secret@x") == [
        "HANDOFF_HUBSPT_TOKEN has no effect: is HANDOFF_HUBSPOT_TOKEN meant?",
        "HANDOFF_REDIS_ULR has no effect: is HANDOFF_REDIS_URL meant?",
    ]
    assert told(CRM_TOKEN="mine", HANDLER_PUSH_RATE="5/s") == []
    assert list(strays({"HUBSPOT_TOKN": "not ours"})) == []


def test_settings_and_what_is_empty_are_no_strays() -> None:
    assert told(REDIS_URL="redis://x", MEMBERS="a=b", INBOX_TOKEN="t", HUBSPOT_TOKN="", SQL_TABLE=" ") == []
    assert list(strays({"INBOX_WEBHOOK_SECRET": "s"})) == []
