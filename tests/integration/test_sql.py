"""The tables of owners in real databases: right whatever order, repetition, crash or rival there was."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, event, inspect, select

from tests import databases
from tests.handler_kit import loaded
from worker import AssigneeChange, CallTimeout, DeadLetter
from worker.core.failures import classify
from worker.testing import change, run

NEEDS_POSTGRES = pytest.mark.skipif(not databases.is_there(), reason=databases.MISSING)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROCESSES = 4

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with databases.postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES)])
def variables(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, str]:
    """What puts the handler on, with tables that nobody has."""
    url = f"sqlite:///{tmp_path}/owners.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    number = next(_numbers)
    names = {"HANDOFF_SQL_TABLE": f"owners_{number}", "HANDOFF_SQL_HISTORY": f"changes_{number}"}
    return {"HANDOFF_SQL_URL": url, **names}


@contextmanager
def handler_of(variables: dict[str, str], **more: str) -> Iterator[ModuleType]:
    with loaded("sql", **(variables | more)) as module:
        try:
            yield module
        finally:
            module.database.engine().dispose()


@pytest.fixture
def sql(variables: dict[str, str]) -> Iterator[ModuleType]:
    with handler_of(variables) as module:
        yield module


def of(seq: int, assignee: str | None = "ada", prospect: str = "p", **more: Any) -> AssigneeChange:
    return change(assignee, seq=seq, prospect=prospect, **({"at": START, "id": f"e{seq}"} | more))


def owners(sql: ModuleType) -> dict[str, Any]:
    with sql.database.transaction() as connection:
        return {row.prospect: row for row in connection.execute(select(sql.tables.owners))}


def history(sql: ModuleType) -> list[Any]:
    with sql.database.transaction() as connection:
        return list(connection.execute(select(sql.tables.history).order_by(sql.tables.history.c.seq)))


def call(sql: ModuleType, *changes: AssigneeChange) -> dict[int, Exception]:
    failed: dict[int, Exception] = sql.keep_owners(changes, None)
    return failed


# --- what is in them --------------------------------------------------------------------------------------------------


def test_the_owner_of_now_and_all_that_were(sql: ModuleType) -> None:
    call(sql, of(1, previous_known=False), of(2, "ben", previous="ada"), of(3, "cyd", "q"), of(4, None, previous="ben"))
    now = owners(sql)
    assert (now["p"].assignee_id, now["p"].previous_assignee_id, now["p"].kind) == (None, "ben", "unassigned")
    assert (now["q"].assignee_id, now["q"].seq, now["q"].event_id, now["q"].external_id) == ("cyd", 3, "e3", "q")
    assert now["q"].occurred_at == START
    assert now["q"].changed_at.tzinfo is not None
    assert [(row.seq, row.assignee_id, row.previous_known) for row in history(sql)] == [
        *((1, "ada", False), (2, "ben", True), (3, "cyd", True), (4, None, True))
    ]


def test_nothing_of_a_person_is_kept_unless_it_is_asked_for(variables: dict[str, str], sql: ModuleType) -> None:
    person = of(1, valuation=12.5, notes="call\0 him 😀", tags=["t1"], profile={"username": "sarah"})
    call(sql, person)
    shown = str([*owners(sql)["p"], *history(sql)[0], sql.preview(person)])
    assert "sarah" not in shown
    assert "call" not in shown
    names = {"HANDOFF_SQL_TABLE": f"{variables['HANDOFF_SQL_TABLE']}_more", "HANDOFF_SQL_HISTORY": "more_changes"}
    with handler_of(variables | names, HANDOFF_SQL_COLUMNS="username,valuation,notes,tags,status_id") as module:
        call(module, person, of(2, prospect="q"))
        row = owners(module)["p"]
        assert (row.username, row.valuation, row.notes, row.tags) == ("sarah", 12.5, "call him 😀", ["t1"])
        assert owners(module)["q"].notes is None
        assert [row.valuation for row in history(module)] == [12.5, None]


def test_an_older_change_that_comes_late_is_history_only(sql: ModuleType) -> None:
    call(sql, of(5, "eve"))
    call(sql, of(3, "cyd", stale=True, late=True))
    assert owners(sql)["p"].assignee_id == "eve"
    assert [(row.seq, row.stale) for row in history(sql)] == [(3, True), (5, False)]


@pytest.mark.parametrize("older_first", [True, False])
def test_of_one_number_the_later_time_wins_and_then_the_id(sql: ModuleType, older_first: bool) -> None:
    later = timedelta(milliseconds=1)
    pairs = [
        (of(1, "ada", "time", id="z"), of(1, "ben", "time", id="a", at=START + later)),
        (of(1, "ada", "id", id="B"), of(1, "ben", "id", id="a")),  # as texts of code points, as the order is made
    ]
    for pair in pairs:
        for each in pair if older_first else reversed(pair):
            call(sql, each)
    assert {row.assignee_id for row in owners(sql).values()} == {"ben"}


def test_the_same_again_changes_nothing(sql: ModuleType) -> None:
    call(sql, of(1), of(2, "ben"))
    before = owners(sql), history(sql)
    call(sql, of(2, "ben"), of(1), of(1))
    assert (owners(sql), history(sql)) == before


def test_teams_have_ids_of_their_own(sql: ModuleType) -> None:
    call(sql, of(1, "ada", team="a"), of(1, "ben", team="b"))
    assert sorted(row.assignee_id for row in history(sql)) == ["ada", "ben"]


# --- any order, any repetition, any crash -----------------------------------------------------------------------------


@cache
def changes_of_three() -> list[AssigneeChange]:
    # Numbers that come twice, so that time and id decide.
    return [
        of(seq // 2, f"m{seq}", f"p{seq % 3}", id=f"e{seq}", at=START + timedelta(milliseconds=seq % 5))
        for seq in range(18)
    ]


class Crash(BaseException):
    """The process is gone, just before a statement."""


@pytest.fixture
def for_examples(variables: dict[str, str]) -> Iterator[ModuleType]:
    with handler_of(variables) as module:
        call(module, of(1))
        yield module


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_they_end_the_same_whatever_came_when_and_how_often(for_examples: ModuleType, data: st.DataObject) -> None:
    sql, everything = for_examples, changes_of_three()
    with sql.database.transaction() as connection:
        for table in sql.tables:
            connection.execute(delete(table))
    left = data.draw(st.permutations([*everything, *data.draw(st.lists(st.sampled_from(everything), max_size=8))]))
    while left:
        size = data.draw(st.integers(2, 16))
        crash_before = data.draw(st.sampled_from([None, None, 0, 1, 2]))
        if _call_or_crash(sql, left[:size], crash_before):
            left = left[size:]
    highest = {p: max((c for c in everything if c.prospect.key == p), key=_place) for p in ("p0", "p1", "p2")}
    assert {p: row.event_id for p, row in owners(sql).items()} == {p: c.event_id for p, c in highest.items()}
    assert {p: row.assignee_id for p, row in owners(sql).items()} == {p: c.assignee_id for p, c in highest.items()}
    assert sorted(row.event_id for row in history(sql)) == sorted(c.event_id for c in everything)


def _place(c: AssigneeChange) -> tuple[Any, ...]:
    return c.seq, c.occurred_at, c.event_id


def _call_or_crash(sql: ModuleType, changes: Sequence[AssigneeChange], crash_before: int | None) -> bool:
    inserts = itertools.count()

    def crash(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT") and next(inserts) == crash_before:
            raise Crash

    def crash_at_commit(connection: Any) -> None:
        if crash_before == 2:
            raise Crash

    engine = sql.database.engine()
    event.listen(engine, "before_cursor_execute", crash)
    event.listen(engine, "commit", crash_at_commit)
    try:
        call(sql, *changes)
    except Crash:
        return False
    finally:
        event.remove(engine, "before_cursor_execute", crash)
        event.remove(engine, "commit", crash_at_commit)
    return True


# --- many at once -----------------------------------------------------------------------------------------------------


def _write_all(variables: dict[str, str], writer: int, go: Any) -> None:
    with handler_of(variables) as module:
        go.wait(20)
        ordered = sorted(changes_of_three(), key=lambda c: hash((writer, c.event_id)))
        for at in range(0, len(ordered), 5):
            assert call(module, *ordered[at : at + 5]) == {}


def test_processes_make_the_tables_and_write_at_once(variables: dict[str, str]) -> None:
    forked = multiprocessing.get_context("fork")
    go = forked.Event()
    writers = [forked.Process(target=_write_all, args=(variables, number, go)) for number in range(PROCESSES)]
    for writer in writers:
        writer.start()
    go.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * PROCESSES
    with handler_of(variables) as module:
        assert len(history(module)) == 18
        assert {row.event_id for row in owners(module).values()} == {"e15", "e16", "e17"}


def test_threads_share_the_engine_and_a_child_has_its_own(sql: ModuleType) -> None:
    threads = [
        threading.Thread(target=call, args=(sql, *changes_of_three()[number::4], of(9, "zoe", f"t{number}")))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    child = os.fork()
    if child == 0:
        try:
            call(sql, of(99, "child", "from-child"))
            os._exit(0 if len(sql.database._engines) == 2 else 2)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    call(sql, of(100, "parent", "from-parent"))
    assert {"from-child", "from-parent", "t0", "t3", "p0"} <= owners(sql).keys()


# --- bad rows ---------------------------------------------------------------------------------------------------------


def constrained(sql: ModuleType) -> None:
    """A rule of the user's, which the member ``nobody`` breaks."""
    call(sql, of(1, prospect="first"))
    name = sql.tables.owners.name
    with sql.database.transaction() as connection:
        if sql.database.backend == "sqlite":
            connection.exec_driver_sql(
                f"CREATE TRIGGER rule BEFORE INSERT ON {name} WHEN new.assignee_id = 'nobody' "
                "BEGIN SELECT RAISE(ABORT, 'no such member'); END"
            )
        else:
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD CONSTRAINT rule CHECK (assignee_id <> 'nobody')")


def test_a_bad_row_is_a_dead_letter_and_takes_no_other_with_it(sql: ModuleType) -> None:
    constrained(sql)
    changes = [of(seq, "nobody" if seq in (4, 9) else "ada", f"p{seq}") for seq in range(2, 14)]
    outcomes = run(sql.keep_owners, changes)
    assert [outcome.kind for outcome in outcomes] == [
        "dead_letter" if c.assignee_id == "nobody" else "done" for c in changes
    ]
    assert outcomes[2].error == "DeadLetter"
    assert "INSERT" not in outcomes[2].text
    assert "nobody" not in outcomes[2].text  # nor any other value of the row
    assert len(history(sql)) == 11  # a change that is no owner is no history: both or none
    assert "p4" not in owners(sql)


def test_what_no_column_takes_is_told_before(sql: ModuleType) -> None:
    failed = call(sql, of(1, "a" * 192), of(2, "nu\0l"), of(3, "ok" * 95))
    assert {at: type(error) for at, error in failed.items()} == {0: DeadLetter, 1: DeadLetter}
    assert str(failed[0]) == "assignee_id has 192 characters, and the column takes 191"
    assert [row.seq for row in history(sql)] == [3]


# --- trouble of the database ------------------------------------------------------------------------------------------


def is_outage(error: BaseException) -> bool:
    failure = classify(error, 0.0)
    return failure.outage and not failure.permanent


def test_tables_that_may_not_be_made_are_waited_for(variables: dict[str, str]) -> None:
    with handler_of(variables, HANDOFF_SQL_CREATE="0") as module:
        with pytest.raises(module.DatabaseUnavailable, match="there is no table owners_") as caught:
            call(module, of(1))
        assert is_outage(caught.value)
        with module.database.transaction() as connection:
            for statement in module.ddl().split(";\n"):
                connection.exec_driver_sql(statement)
        call(module, of(1))
        assert len(history(module)) == 1
        assert inspect(module.database.engine()).get_indexes(module.tables.history.name)


def test_a_column_that_is_asked_for_and_not_there_is_named(variables: dict[str, str], sql: ModuleType) -> None:
    call(sql, of(1))
    with handler_of(variables, HANDOFF_SQL_COLUMNS="notes") as module:
        with pytest.raises(module.DatabaseUnavailable, match="has no column notes"):
            call(module, of(2))
        for table in module.tables:
            with module.database.transaction() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN notes TEXT")
        call(module, of(2, notes="n"))
        assert [row.notes for row in history(module)] == [None, "n"]


def test_tables_that_were_taken_away_are_made_again(sql: ModuleType) -> None:
    call(sql, of(1))
    with sql.database.transaction() as connection:
        for table in sql.tables:
            table.drop(connection)
    with pytest.raises(sql.DatabaseUnavailable):
        call(sql, of(2))
    call(sql, of(2))
    assert len(history(sql)) == 1


def test_a_lock_that_does_not_go_is_an_outage_and_no_dead_letter(variables: dict[str, str]) -> None:
    with handler_of(variables, HANDOFF_SQL_TIMEOUT="100ms") as module:
        call(module, of(1))
        rival = create_engine(variables["HANDOFF_SQL_URL"])
        try:
            with rival.connect() as connection:
                if module.database.backend == "sqlite":
                    connection.exec_driver_sql("BEGIN EXCLUSIVE")
                else:
                    connection.exec_driver_sql(f"LOCK TABLE {module.tables.owners.name} IN ACCESS EXCLUSIVE MODE")
                with pytest.raises(module.DatabaseUnavailable) as caught:
                    call(module, of(2))
                connection.rollback()
        finally:
            rival.dispose()
        assert is_outage(caught.value)
        call(module, of(2))
        assert [row.seq for row in history(module)] == [1, 2]


def test_an_outage_among_halves_keeps_what_was_written(sql: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    constrained(sql)
    write, calls = sql._write, itertools.count(1)

    def write_until_the_third(rows: Any) -> None:
        if next(calls) > 3:
            raise sql.DatabaseUnavailable("gone")
        write(rows)

    monkeypatch.setattr(sql, "_write", write_until_the_third)
    # All four; the first half; the second half; its bad row.
    failed = call(sql, of(2, "ada", "a"), of(3, "ada", "b"), of(4, "nobody", "c"), of(5, "ada", "d"))
    assert {at: type(error).__name__ for at, error in failed.items()} == {
        2: "DatabaseUnavailable",
        3: "DatabaseUnavailable",
    }
    assert [row.seq for row in history(sql)] == [1, 2, 3]


def sleep(sql: ModuleType) -> None:
    with sql.database.transaction() as connection:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        connection.exec_driver_sql("SELECT pg_sleep(8)")


@NEEDS_POSTGRES
def test_a_time_limit_in_the_midst_of_an_answer_leaves_no_half_used_connection(postgres_url: str) -> None:
    with handler_of({"HANDOFF_SQL_URL": postgres_url, "HANDOFF_SQL_TABLE": "limited"}) as module:
        call(module, of(1))

        def interrupt(*_: Any) -> None:
            raise CallTimeout

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(CallTimeout):
                sleep(module)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        call(module, of(2))
        assert len(history(module)) == 2


@NEEDS_POSTGRES
def test_a_connection_that_died_while_it_was_idle_is_not_noticed(postgres_url: str) -> None:
    with handler_of(
        {"HANDOFF_SQL_URL": postgres_url, "HANDOFF_SQL_TABLE": "idle", "HANDOFF_SQL_HISTORY": "idled"}
    ) as m:
        call(m, of(1))
        rival = create_engine(postgres_url)
        with rival.begin() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'handoff'"
            )
        rival.dispose()
        assert call(m, of(2)) == {}


@NEEDS_POSTGRES
def test_those_who_stand_in_each_others_way_go_on_by_themselves(postgres_url: str) -> None:
    with handler_of(
        {"HANDOFF_SQL_URL": postgres_url, "HANDOFF_SQL_TABLE": "ways", "HANDOFF_SQL_HISTORY": "wayed"}
    ) as m:
        call(m, of(1))
        engine, times = m.database.engine(), itertools.count(1)

        def stand_in_the_way(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            if statement.startswith("INSERT") and next(times) < 3:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$")

        event.listen(engine, "before_cursor_execute", stand_in_the_way)
        assert call(m, of(2)) == {}
        assert next(times) == 5  # two of them failed, and then both statements of the third


def test_no_database_is_an_outage_and_its_password_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import free_port

    url = f"postgresql+psycopg://handoff:hunter2-%40@127.0.0.1:{free_port()}/name"
    with handler_of({"HANDOFF_SQL_URL": url}) as module:
        with pytest.raises(module.DatabaseUnavailable, match="OperationalError: connection") as caught:
            call(module, of(1))
        assert is_outage(caught.value)
        assert "hunter2" not in f"{caught.value} {module.options} {module.database.url} {module.database.engine()}"
