"""What is a doorbell, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.bells import fault, kept

HEADERS: dict[str, Any] = {"lang": "py", "task": "handoff.sequence", "id": "1"}
DELIVERY: dict[str, Any] = {"exchange": "", "routing_key": "handoff.sequence"}
BODY: list[Any] = [[3], {}, {}]
CELERYS: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (HEADERS, BODY),
        (HEADERS | {"eta": "2026-01-01T00:00:00+00:00"}, BODY),
        (HEADERS | {"retries": 0, "timelimit": [None, None], "expires": None, "argsrepr": "(3,)"}, [[3], {}, CELERYS]),
        (HEADERS, ((0,), {}, None)),
        (HEADERS, [[15], {}, {}]),
    ],
)
def test_what_we_ring_and_what_celery_sends_by_hand_is_one(headers: Any, body: Any) -> None:
    assert fault(headers, DELIVERY, body, 16) is None


@pytest.mark.parametrize(
    ("headers", "delivery", "body", "why"),
    [
        (None, DELIVERY, BODY, "no headers"),
        ([], DELIVERY, BODY, "no headers"),
        ({1: "task"}, DELIVERY, BODY, "no headers"),
        ({"id": "1"}, DELIVERY, BODY, "no task"),
        (HEADERS | {"task": []}, DELIVERY, BODY, "no task"),
        (HEADERS | {"task": "x" * 501}, DELIVERY, BODY, "no task"),
        (HEADERS | {"id": {}}, DELIVERY, BODY, "no id"),
        (HEADERS | {"id": ""}, DELIVERY, BODY, "no id"),
        (HEADERS, None, BODY, "no delivery information"),
        (HEADERS | {"eta": 5}, DELIVERY, BODY, "a time that is none"),
        (HEADERS | {"eta": "soon"}, DELIVERY, BODY, "a time that is none"),
        (HEADERS, DELIVERY, 5, "a body of another shape"),
        (HEADERS, DELIVERY, "abc", "a body of another shape"),
        (HEADERS, DELIVERY, [[3], {}], "a body of another shape"),
        (HEADERS, DELIVERY, [[], {}, {}], "other arguments"),
        (HEADERS, DELIVERY, [[3, 4], {}, {}], "other arguments"),
        (HEADERS, DELIVERY, [[3], {"partition": 3}, {}], "other arguments"),
        (HEADERS, DELIVERY, ["3", {}, {}], "other arguments"),
        (HEADERS, DELIVERY, [["3"], {}, {}], "no partition"),
        (HEADERS, DELIVERY, [[True], {}, {}], "no partition"),
        (HEADERS, DELIVERY, [[16], {}, {}], "no partition"),
        (HEADERS, DELIVERY, [[-1], {}, {}], "no partition"),
        (HEADERS, DELIVERY, [[3], {}, [1]], "more than a doorbell"),
        (HEADERS, DELIVERY, [[3], {}, CELERYS | {"chain": [{"task": "other"}]}], "more than a doorbell"),
    ],
)
def test_what_is_none_is_told_why(headers: Any, delivery: Any, body: Any, why: str) -> None:
    assert fault(headers, delivery, body, 16) == why


@given(json_values, json_values, json_values)
def test_whatever_comes_it_answers(headers: Any, delivery: Any, body: Any) -> None:
    assert fault(headers, delivery, body, 16) is not None


@given(st.dictionaries(st.sampled_from(["lang", "task", "id", "eta", "timelimit", "stamps"]), json_values))
def test_only_texts_that_a_bell_needs_are_passed_on(headers: dict[str, Any]) -> None:
    assert kept(headers) == {
        name: value for name, value in headers.items() if name not in {"timelimit", "stamps"} and isinstance(value, str)
    }
