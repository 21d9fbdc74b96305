"""Keeps a table of the current owner of each prospect, and one of every change: PostgreSQL, MySQL, MariaDB or SQLite.
On with ``HANDOFF_SQL_URL``, a URL of SQLAlchemy; needs ``pip install 'handoff[sql]'`` and the database's driver.

``worker/owner_tables.py`` has the columns, ``worker/databases.py`` the connections. The tables are made at the first
call, by any number of processes at once, or by hand: ``python -m worker.handlers.sql`` prints the statements.

**What the tables are like.** A call writes up to 200 changes in one transaction. Each event is in the history once,
however often it comes; the table of owners gives way to newer changes only, by (seq, occurred_at, event_id). That is
why late changes come too (``late="all"``): the history is whole, with ``stale`` true, and the owner stays who it is. An
event that names the owner there is makes no row. ``HANDOFF_HANDLER_SQL_CONFLATE=1`` with
``HANDOFF_HANDLER_SQL_LATE=skip_stale`` is for who wants owners only: after an outage the history then lacks what was
in between.

**Failure policy.** What the database says about a row (a constraint or a trigger of yours, a value that it does not
take) makes that row's change a dead letter at once, and the others are written: the batch is halved until the bad row
is alone. A deadlock is tried again at once, three times in all. Anything else is no change's fault: no connection, a
lock that does not go, a full disk, a wrong password, no such table. All wait, none becomes a dead letter for a day, and
``handoff status`` says why.

**Limits.** Ids of up to 191 characters. No data of persons unless ``HANDOFF_SQL_COLUMNS`` names it. Connecting, each
statement and each wait for a lock have a time limit. Texts of errors are one line, without statement or parameters and
never with the password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from worker import AssigneeChange, BatchContext, DeadLetter, handler
from worker.errors import ConfigurationError
from worker.handler_settings import CommaList, Duration, HandlerSettings

try:
    from sqlalchemy import Connection, Table, inspect
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    from worker import owner_tables
    from worker.databases import MYSQL, Database, is_anew, is_of_a_row, number, parsed
    from worker.owner_tables import EXTRAS, Row
except ModuleNotFoundError:
    raise ConfigurationError("HANDOFF_SQL_URL", "SQLAlchemy is not installed", "pip install 'handoff[sql]'") from None

MYSQL_THERE_IS: Final = 1061  # an index of that name
TRIES: Final = 3
NAME: Final = re.compile(r"([A-Za-z_]\w{0,62}\.)?[A-Za-z_]\w{0,47}", re.ASCII)


class Options(HandlerSettings, env_prefix="HANDOFF_SQL_"):
    url: SecretStr = Field(
        description="SQLAlchemy's URL of the database, such as `postgresql+psycopg://user:password@host/name`, "
        "`mysql+pymysql://...`, `sqlite:////path/owners.db`."
    )
    table: str = Field("handoff_owners", description="Table of current owners, by team and prospect; `schema.table`.")
    history: str = Field(
        "handoff_owner_changes", description="Table of all changes, by team and event; `schema.table`."
    )
    columns: CommaList = Field(
        default_factory=list,
        description=f"More columns in both, comma-separated: {', '.join(f'`{name}`' for name in EXTRAS)}.",
    )
    create: bool = Field(True, description="Make the tables that are not there.")
    connect_timeout: Duration = Field(5, ge=1, description="For a connection to the database.")
    timeout: Duration = Field(10, ge=0.1, description="For each statement, and for each lock that it waits for.")

    @field_validator("url")
    @classmethod
    def _is_one(cls, value: SecretStr) -> SecretStr:
        parsed(value.get_secret_value())
        return value

    @field_validator("columns")
    @classmethod
    def _are_known(cls, value: list[str]) -> list[str]:
        if unknown := [name for name in value if name not in EXTRAS]:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(EXTRAS)}")
        return list(dict.fromkeys(value))

    @field_validator("table", "history")
    @classmethod
    def _is_a_name(cls, value: str, info: ValidationInfo) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(
                "must be a name of up to 48 letters, digits and _, with its schema and a point before or not"
            )
        if info.field_name == "history" and value.lower() == str(info.data.get("table")).lower():
            raise ValueError("must be another table than HANDOFF_SQL_TABLE")
        return value


def _configured() -> Options:
    try:
        return Options.load()
    except ConfigurationError as error:
        if __name__ == "__main__":
            raise SystemExit(str(error)) from None
        raise


options = _configured()
database: Final = Database(
    parsed(options.url.get_secret_value()), connecting=options.connect_timeout, statement=options.timeout
)
tables: Final = owner_tables.tables(options.table, options.history, options.columns)
upsert: Final = owner_tables.upsert(tables.owners, database.backend)
append: Final = owner_tables.append(tables.history, database.backend)

_ready: set[int] = set()  # processes that have seen the tables


class DatabaseUnavailable(ConnectionError):
    """Nothing can be written for now. To the default policy what can't be reached is an outage."""


def preview(change: AssigneeChange) -> object:
    row = owner_tables.row_of(change, datetime.now(UTC))
    return {name: value for name, value in row.items() if name not in {"occurred_at", "changed_at"}}


@handler(name="sql", batch=200, batch_wait=0, order_by="prospect", late="all", preview=preview)
def keep_owners(changes: Sequence[AssigneeChange], ctx: BatchContext) -> dict[int, Exception]:  # noqa: ARG001
    """By place those that were not written, with the reason. Raises ``DatabaseUnavailable`` if none was."""
    now = datetime.now(UTC)
    rows = [owner_tables.row_of(change, now, options.columns) for change in changes]
    faults = {at: fault for at, row in enumerate(rows) if (fault := owner_tables.fault_of(row)) is not None}
    good = [at for at in range(len(rows)) if at not in faults]
    failed = write([rows[at] for at in good])
    return {at: DeadLetter(fault) for at, fault in faults.items()} | {good[at]: each for at, each in failed.items()}


def write(rows: Sequence[Row]) -> dict[int, Exception]:
    """As above, with halves instead of a transaction that had a bad row in it."""
    failed: dict[int, Exception] = {}
    parts = [range(len(rows))] if rows else []
    while parts:
        part = parts.pop()
        try:
            _write([rows[at] for at in part])
        except DeadLetter as error:
            if len(part) == 1:
                failed[part[0]] = error
            else:
                half = len(part) // 2
                parts += [part[half:], part[:half]]  # the last is the next, so the order stays
        except DatabaseUnavailable as error:
            if len(part) == len(rows):
                raise
            failed |= {at: error for left in (part, *parts) for at in left}
            break
    return failed


def _write(rows: list[Row]) -> None:
    """All of them in one transaction, or none. Raises ``DeadLetter`` if it was a row's fault."""
    if os.getpid() not in _ready:
        _prepare()
    for left in reversed(range(TRIES)):
        try:
            with database.transaction() as connection:
                connection.execute(append, sorted(rows, key=lambda row: (row["team_id"], row["event_id"])))
                connection.execute(upsert, owner_tables.newest(rows))
        except DBAPIError as error:
            if left and is_anew(error):
                continue
            if is_of_a_row(error):
                raise DeadLetter(database.words(error)) from None
            _ready.discard(os.getpid())
            raise DatabaseUnavailable(database.words(error)) from None
        except SQLAlchemyError as error:
            raise DatabaseUnavailable(database.words(error)) from None
        return


def _prepare() -> None:
    """Once for a process, and again after trouble: the tables are there, with their columns."""
    try:
        with database.transaction() as connection:
            _look(connection)
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(database.words(error)) from None
    _ready.add(os.getpid())


def _look(connection: Connection) -> None:
    missing = _missing(connection)
    if missing and not options.create:
        raise DatabaseUnavailable(f"there is no table {missing[0].fullname}: see python -m worker.handlers.sql")
    if missing:
        _create(connection)
    for table in tables:
        found = {column["name"] for column in inspect(connection).get_columns(table.name, schema=table.schema)}
        if absent := [column.name for column in table.c if column.name not in found]:
            raise DatabaseUnavailable(
                f"table {table.fullname} has no column {absent[0]}: see python -m worker.handlers.sql"
            )


def _missing(connection: Connection) -> list[Table]:
    found = inspect(connection)
    return [table for table in tables if not found.has_table(table.name, schema=table.schema)]


def _create(connection: Connection) -> None:
    """One process at a time: IF NOT EXISTS alone does not keep PostgreSQL from failing where two do it at once, nor
    from waiting, with one table locked, for who writes to the other already."""
    backend = database.backend
    if backend == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('handoff.sql'))")
    elif backend == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    for table in _missing(connection):
        for statement in owner_tables.creation(table, backend):
            try:
                connection.execute(statement)
            except DBAPIError as error:
                if backend not in MYSQL or number(error) != MYSQL_THERE_IS:
                    raise


def ddl() -> str:
    """The statements that make the tables, for this URL's database. Connects to nothing, and needs no driver."""
    return "\n\n".join(owner_tables.ddl(tables, database.url.get_dialect()()))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        print(ddl())  # noqa: T201 - what it is for
else:
    database.check_driver("HANDOFF_SQL_URL")
