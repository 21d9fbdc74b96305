"""Statements for the tables of owners, and what they say of errors, without a database; MySQL's by an imitation."""

from __future__ import annotations

import itertools
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from tests.handler_kit import loaded
from worker import owner_tables
from worker.databases import Database, is_anew, is_of_a_row
from worker.errors import ConfigurationError
from worker.testing import change

START = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = owner_tables.tables("owners", "changes")


def refused(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught, loaded("sql", **variables):
        raise AssertionError("it was taken")
    return str(caught.value)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("hunter2", "must be a URL of SQLAlchemy"),
        ("nosuchdb://u:hunter2@h/d", "must be a URL of SQLAlchemy"),
        ("oracle://u:hunter2@h/d", "must be of one of postgresql, sqlite, mysql, mariadb"),
        ("postgresql+asyncpg://u:hunter2@h/d", "names an async driver"),
        ("postgresql+psycopg://u:hunter2@ter@h/d", "has an @ too many"),
        ("sqlite://", "must name a file"),
        ("mysql+pymysql://u:hunter2@h/d", "the driver 'pymysql' is not installed (pip install 'pymysql')"),
        ("postgresql+psycopg2://u:hunter2@h/d", "is not installed (pip install 'psycopg2-binary')"),
    ],
)
def test_a_url_that_is_of_no_use_is_one_line(url: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for driver in ("pymysql", "psycopg2"):
        monkeypatch.setitem(__import__("sys").modules, driver, None)
    told = refused(HANDOFF_SQL_URL=url)
    assert told.startswith("HANDOFF_SQL_URL: ")
    assert problem in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("HISTORY", "changes; DROP TABLE x", "must be a name of"),
        ("HISTORY", "a.b.c", "must be a name of"),
        ("HISTORY", "ä", "must be a name of"),
        ("HISTORY", "x" * 49, "must be a name of"),
        ("HISTORY", "Handoff_Owners", "must be another table than HANDOFF_SQL_TABLE"),
        ("COLUMNS", "notes,bio", "'bio' is none of username, "),
    ],
)
def test_names_are_names(name: str, text: str, problem: str) -> None:
    told = refused(HANDOFF_SQL_URL="sqlite:///never-made.db", **{f"HANDOFF_SQL_{name}": text})
    assert told.startswith(f"HANDOFF_SQL_{name}: ")
    assert problem in told


@pytest.mark.parametrize(
    "url", ["mysql+pymysql://h/d", "mariadb+pymysql://h/d", "postgresql+psycopg://", "sqlite:///x"]
)
def test_statements_to_make_them_by_hand_have_the_schema(url: str) -> None:
    made = owner_tables.tables("crm.owners", "changes", owner_tables.EXTRAS)
    first, index, second, _ = owner_tables.ddl(made, make_url(url).get_dialect()())
    assert first.startswith("CREATE TABLE crm.owners (")
    assert "PRIMARY KEY (team_id, prospect)" in first
    assert "owners (assignee_id)" in index
    assert "PRIMARY KEY (team_id, event_id)" in second


def test_ours_are_limits_that_the_url_may_change() -> None:
    for text, name in [("postgresql+psycopg://h/d?connect_timeout=3", "connect_timeout"), ("sqlite:///x", "timeout")]:
        database = Database(make_url(text), connecting=5, statement=10)
        assert name in database.limits()
    assert Database(make_url("mysql+pymysql://h"), connecting=5, statement=10).limits()["read_timeout"] == 15


# --- errors -----------------------------------------------------------------------------------------------------------


class Said(Exception):
    sqlstate: str | None = None


def error_of(kind: type[DBAPIError], *args: Any, sqlstate: str | None = None) -> DBAPIError:
    said = Said(*args)
    said.sqlstate = sqlstate
    return kind("INSERT", {"notes": "secret"}, said, hide_parameters=True)


def test_what_is_of_a_row_and_what_is_of_the_database() -> None:
    assert is_of_a_row(error_of(IntegrityError, "x"))
    assert is_of_a_row(error_of(OperationalError, 1644, "a trigger's"))
    assert is_of_a_row(error_of(DBAPIError, "x", sqlstate="P0001"))
    assert not is_of_a_row(error_of(OperationalError, "x", sqlstate="57014"))
    assert is_anew(error_of(OperationalError, 1213, "Deadlock found"))
    assert is_anew(error_of(OperationalError, "x", sqlstate="40001"))
    assert not is_anew(error_of(OperationalError, 1205, "Lock wait timeout exceeded"))


def test_words_are_one_line_without_the_password() -> None:
    database = Database(make_url("postgresql+psycopg://u:p%40ss@h/d"), connecting=5, statement=10)
    error = error_of(IntegrityError, "\nconstraint of p@ss and p%40ss\nDETAIL: Failing row contains (Jane).")
    assert database.words(error) == "Said: constraint of *** and ***"


# --- MySQL ------------------------------------------------------------------------------------------------------------


class Imitation:
    """ON DUPLICATE KEY UPDATE as MySQL does it: one assignment after the other, each seeing those before it."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        columns = ", ".join(column.name for column in TABLES.owners.c)
        self.connection.execute(f"CREATE TABLE owners ({columns})")
        statement = str(owner_tables.upsert(TABLES.owners, "mysql").compile(dialect=mysql.dialect()))
        assignments = statement.partition(" ON DUPLICATE KEY UPDATE ")[2]
        assert "%" not in assignments  # PyMySQL puts no parameters in there
        parts = re.split(r", (?=\w+ = if\()", assignments)
        self.updates = [re.sub(r"VALUES\((\w+)\)", r":\1", part).replace("= if(", "= iif(") for part in parts]

    def upsert(self, row: dict[str, Any]) -> None:
        if not self.connection.execute("SELECT 1 FROM owners").fetchall():
            names = ", ".join(f":{name}" for name in row)
            self.connection.execute(f"INSERT INTO owners VALUES ({names})", row)
            return
        for update in self.updates:
            self.connection.execute(f"UPDATE owners SET {update}", row)

    def owner(self) -> tuple[Any, ...]:
        return self.connection.execute("SELECT assignee_id, event_id, occurred_at, seq FROM owners").fetchone()


def test_mysql_keeps_the_highest_place_in_whatever_order() -> None:
    imitation = Imitation()
    places = [(2, 0, "b"), (1, 5, "z"), (2, 1, "a"), (2, 1, "B"), (3, None, "0")]
    rows = []
    for at, (seq, later, name) in enumerate(places):
        moment = None if later is None else START + timedelta(milliseconds=later)
        made = change(f"m{at}", seq=seq, id=name, at=START)
        row = owner_tables.newest([owner_tables.row_of(made, START)])[0]
        text = None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        rows.append(row | {"occurred_at": text, "changed_at": "x"})
    for count in (2, 3, 5):
        for order in itertools.permutations(range(count)):
            imitation.connection.execute("DELETE FROM owners")
            for at in order:
                imitation.upsert(rows[at])
            best = max(rows[:count], key=lambda row: (row["seq"], row["occurred_at"] or "", row["event_id"]))
            assert imitation.owner() == (best["assignee_id"], best["event_id"], best["occurred_at"], best["seq"])


def test_no_error_of_a_row_is_ignored_for_the_sake_of_repetitions() -> None:
    statement = str(owner_tables.append(TABLES.history, "mysql").compile(dialect=mysql.dialect()))
    assert statement.startswith("INSERT INTO changes (")
    assert statement.endswith("ON DUPLICATE KEY UPDATE event_id = changes.event_id")
