"""What may be put into an operator's text, and how what people wrote is made fit for it."""

from __future__ import annotations

from typing import Any

import pytest

from worker.testing import change
from worker.wording import FIELDS, Template, fields_of, link, one_line


def name_of(member: str | None, nobody: str) -> str:
    return nobody if member is None else member.title()


@pytest.mark.parametrize(
    ("valuation", "text"),
    [
        (12500, "12,500"),
        (12500.0, "12,500"),
        (0.5, "0.50"),
        (10**400, f"{10**400:,}"),
        (float("inf"), "inf"),
        (True, ""),
    ],
)
def test_a_valuation_is_a_number_whatever_it_is(valuation: Any, text: str) -> None:
    made = change("ben")
    made.prospect.data["context"] = {"valuation": valuation}
    assert fields_of(made, name_of, {})["valuation"] == text


def test_a_status_without_a_name_is_no_detail() -> None:
    made = change("ben")
    made.prospect.data["context"] = {"statusId": "st1", "valuation": 5}
    bare, named = fields_of(made, name_of, {}), fields_of(made, name_of, {"st1": "Hot"})
    assert (bare["status"], named["status"]) == ("st1", "Hot")
    assert bare["details"].endswith("5)")
    assert "st1" not in bare["details"]
    assert "Hot, 5)" in named["details"]


def test_every_field_has_a_value() -> None:
    assert fields_of(change("ben", previous="ann"), name_of, {}).keys() == set(FIELDS)


def test_nobody_and_somebody_are_told_apart() -> None:
    assert fields_of(change(None, previous="ann"), name_of, {})["owner"] == "nobody"
    assert fields_of(change("ben"), name_of, {})["previous"] == "nobody"
    assert fields_of(change("ben", previous_known=False), name_of, {})["previous"] == "somebody"


def test_braces_are_written_twice_and_a_field_without_a_value_is_nothing() -> None:
    template = Template("{{{name}}}{notes}", FIELDS)
    assert template.fields == {"name", "notes"}
    assert template.fill({"name": "{key}"}) == "{{key}}"  # what is put in is not read again


@pytest.mark.parametrize(
    "text", [None, "", "javascript:alert(1)", "https://x.com/a b", "https://x.com/<b>", "https://x.com/a\nb", "//x.com"]
)
def test_what_is_no_plain_address_is_no_link(text: str | None) -> None:
    assert link(text) == ""


def test_a_line_has_no_ends_no_controls_and_no_change_of_direction() -> None:
    assert one_line(" a\r\n\tb\x00c\u202ed\u2028e\u2066 ") == "a b c d e"
    assert one_line("x" * 300) == "x" * 199 + "…"
