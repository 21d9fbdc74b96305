"""Lanes' names: the team can be read back from any, and no two orders' keys meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.lanes import ORDERS, OrderBy, escaped, lane_of, team_of, unescaped

texts = st.one_of(st.text(), st.text(st.sampled_from(":%3A25 a")))


@pytest.mark.parametrize(
    ("order_by", "prospect", "lane"),
    [
        ("team", "p:1", "a%3Ab"),
        ("team", None, "a%3Ab"),
        ("prospect", "p:1", "a%3Ab:p:1"),
        ("prospect", None, "a%3Ab"),
        (None, "p:1", "a%3Ab:5-1"),
        (None, None, "a%3Ab:5-1"),
    ],
)
def test_a_lane_is_named_by_team_and_what_it_is_ordered_by(order_by: OrderBy, prospect: str | None, lane: str) -> None:
    assert lane_of(order_by, escaped("a:b"), prospect, "5-1") == lane


@given(texts, texts)
def test_escaping_tells_any_two_texts_apart_and_leaves_no_colon(one: str, other: str) -> None:
    assert unescaped(escaped(one)) == one
    assert ":" not in escaped(one)
    assert (escaped(one) == escaped(other)) == (one == other)


@given(st.sampled_from(ORDERS), texts, st.one_of(st.none(), texts), texts)
def test_the_team_of_any_lane_is_known(order_by: OrderBy, team: str, prospect: str | None, entry: str) -> None:
    assert team_of(lane_of(order_by, escaped(team), prospect, entry)) == team


@given(texts, st.one_of(st.none(), texts), texts, st.one_of(st.none(), texts))
def test_two_prospects_share_a_lane_only_if_they_are_one(
    team: str, prospect: str | None, other_team: str, other_prospect: str | None
) -> None:
    lanes = [lane_of("prospect", escaped(t), p, "5-1") for t, p in ((team, prospect), (other_team, other_prospect))]
    assert (lanes[0] == lanes[1]) == ((team, prospect) == (other_team, other_prospect))
