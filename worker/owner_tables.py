"""Two tables in SQLAlchemy Core: the owner of each prospect now, and every change. What is in them, and how rows get in
and stay right; nothing here talks to a database.

A change's place is (seq, occurred_at, event_id), the order in which changes are released. A row of the first table
gives way to a higher place only, and the second has each event once: so any order, any repetition and any crash between
two calls end in the same tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Double,
    Index,
    Insert,
    MetaData,
    String,
    Table,
    Text,
    and_,
    func,
    literal_column,
    or_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator, TypeEngine

from worker import AssigneeChange

LENGTH: Final = 191  # characters of an id: three of them fit in a key of any of the databases
NAME_LENGTH: Final = 48  # of a table: PostgreSQL cuts the names of its indexes at 63
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MYSQL: Final = ("mysql", "mariadb")
# No parameter, though it could be one: PyMySQL takes none behind the values of a statement for many rows.
EPOCH_SQL: Final = {"postgresql": "'1970-01-01 00:00:00+00'", "sqlite": "'1970-01-01 00:00:00.000000'"}

Row = dict[str, Any]


class Utc(TypeDecorator[datetime]):
    """A time with its zone where the database has such a type (PostgreSQL), else without one, in UTC."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(mysql.DATETIME(fsp=3) if dialect.name in MYSQL else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def _exact(length: int) -> TypeEngine[str]:
    """Text that is compared character by character, in capitals and small ones, whatever the database's language is."""
    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)
    )


def _long() -> TypeEngine[str]:
    return Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), *MYSQL)


def _clean(value: object) -> str | None:
    """A person's text as any database takes it."""
    return value.replace("\0", "").encode(errors="replace").decode() if isinstance(value, str) else None


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


class Extra(NamedTuple):
    """A column that is there if asked for, since it tells of a person."""

    type: Callable[[], TypeEngine[Any]]
    of: Callable[[AssigneeChange], object]


EXTRAS: Final[Mapping[str, Extra]] = {
    "username": Extra(_long, lambda change: _clean(change.prospect.username)),
    "display_name": Extra(_long, lambda change: _clean(change.prospect.display_name)),
    "profile_url": Extra(_long, lambda change: _clean(change.prospect.profile_url)),
    "status_id": Extra(_long, lambda change: _clean(change.prospect.context.get("statusId"))),
    "tags": Extra(lambda: JSON(none_as_null=True), lambda change: _tags(change.prospect.context.get("tags"))),
    "valuation": Extra(Double, lambda change: _number(change.prospect.context.get("valuation"))),
    "notes": Extra(_long, lambda change: _clean(change.prospect.context.get("notes"))),
}


def _tags(value: object) -> list[str | None] | None:
    return [_clean(tag) for tag in value if isinstance(tag, str)] if isinstance(value, list) else None


class Tables(NamedTuple):
    owners: Table
    history: Table


def tables(owners: str, history: str, extras: Iterable[str] = ()) -> Tables:
    """The two by their names (``table`` or ``schema.table``), with some of ``EXTRAS``."""
    chosen, metadata = list(extras), MetaData()
    return Tables(
        _table(owners, metadata, ("team_id", "prospect"), chosen, [("assignee_id",)]),
        _table(
            history,
            metadata,
            ("team_id", "event_id"),
            chosen,
            [("team_id", "prospect", "seq")],
            # Of a change that came late nobody knows whom it followed, and it may have been over by then.
            Column("previous_known", Boolean, nullable=False),
            Column("stale", Boolean, nullable=False),
        ),
    )


def _table(
    name: str, metadata: MetaData, key: tuple[str, str], extras: list[str], indexes: list[tuple[str, ...]], *more: Any
) -> Table:
    schema, _, bare = name.rpartition(".")
    ids = ("team_id", "prospect", "external_id", "platform", "platform_id", "assignee_id", "previous_assignee_id")
    required = {"team_id", "prospect"}
    columns: list[Column[Any]] = [
        *(Column(name, _exact(LENGTH), primary_key=name in key, nullable=name not in required) for name in ids),
        Column("kind", String(16), nullable=False),
        Column("seq", BigInteger, nullable=False, autoincrement=False),
        Column("event_id", _exact(LENGTH), primary_key="event_id" in key, nullable=False),
        Column("occurred_at", Utc),
        Column("changed_at", Utc, nullable=False),
        *more,
        *(Column(name, EXTRAS[name].type()) for name in extras),
    ]
    made = Table(bare, metadata, *columns, schema=schema or None, mysql_engine="InnoDB", mariadb_engine="InnoDB")
    for index in indexes:
        Index(f"ix_{bare}_{index[-1]}", *(made.c[column] for column in index))
    return made


def row_of(change: AssigneeChange, now: datetime, extras: Iterable[str] = ()) -> Row:
    """A change as a row of the history. ``now``: when it is written, UTC."""
    prospect = change.prospect
    return {
        "team_id": change.team_id,
        "prospect": prospect.key,
        "external_id": prospect.external_id,
        "platform": prospect.platform,
        "platform_id": prospect.platform_id,
        "assignee_id": change.assignee_id,
        "previous_assignee_id": change.previous_assignee_id,
        "kind": change.kind.value,
        "seq": change.seq,
        "event_id": change.event_id,
        "occurred_at": change.occurred_at,
        "changed_at": now,
        "previous_known": change.previous_known,
        "stale": change.stale,
        **{name: EXTRAS[name].of(change) for name in extras},
    }


def fault_of(row: Row) -> str | None:
    """Why no table can take this row; None where all is well. Does not quote."""
    for name, value in row.items():
        if not isinstance(value, str) or name in EXTRAS:
            continue
        if len(value) > LENGTH:
            return f"{name} has {len(value)} characters, and the column takes {LENGTH}"
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return f"{name} has characters that no database takes"
    return None


def newest(rows: Iterable[Row]) -> list[Row]:
    """Of each prospect the row with the highest place, as rows of the table of owners; in the order of the key, so that
    whoever writes several takes the locks in the same order."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["team_id"], row["prospect"]
        if key not in found or _place(row) > _place(found[key]):
            found[key] = row
    return [
        {name: value for name, value in found[key].items() if name not in {"previous_known", "stale"}}
        for key in sorted(found)
    ]


def _place(row: Row) -> tuple[int, datetime, str]:
    return row["seq"], row["occurred_at"] or EPOCH, row["event_id"]


def upsert(owners: Table, dialect: str) -> Insert:
    """Insert rows; where a prospect has one, the higher place stays."""
    old = owners.c
    changing = [column.name for column in old if column.name not in {"team_id", "prospect"}]
    if dialect in MYSQL:
        into = mysql.insert(owners)
        # MySQL assigns from left to right and compares with what it has assigned: what the place is made of comes last,
        # and its first part at the very end.
        place = ["event_id", "occurred_at", "seq"]
        order = [*(name for name in changing if name not in place), *place]
        newer = _newer(into.inserted, old, "'1970-01-01 00:00:00.000'")
        made: Insert = into.on_duplicate_key_update(
            [(name, func.if_(newer, into.inserted[name], old[name])) for name in order]
        )
        return made
    insert: Any = (postgresql if dialect == "postgresql" else sqlite).insert(owners)
    guarded: Insert = insert.on_conflict_do_update(
        index_elements=[old.team_id, old.prospect],
        set_={name: insert.excluded[name] for name in changing},
        where=_newer(insert.excluded, old, EPOCH_SQL[dialect]),
    )
    return guarded


def _newer(new: Any, old: Any, epoch_sql: str) -> ColumnElement[bool]:
    epoch: ColumnElement[Any] = literal_column(epoch_sql, Utc())
    new_at, old_at = func.coalesce(new.occurred_at, epoch), func.coalesce(old.occurred_at, epoch)
    return or_(
        new.seq > old.seq,
        and_(
            new.seq == old.seq,
            or_(new_at > old_at, and_(new_at == old_at, new.event_id > old.event_id)),
        ),
    )


def append(history: Table, dialect: str) -> Insert:
    """Insert rows; an event that is there stays as it is."""
    if dialect in MYSQL:  # and not INSERT IGNORE, which ignores what is wrong with a row too
        return mysql.insert(history).on_duplicate_key_update(event_id=history.c.event_id)
    insert: Any = (postgresql if dialect == "postgresql" else sqlite).insert(history)
    made: Insert = insert.on_conflict_do_nothing()
    return made


def ddl(made: Sequence[Table], dialect: Dialect) -> list[str]:
    """The statements that make the tables."""
    found: list[CreateTable | CreateIndex] = []
    for table in made:
        found += [CreateTable(table), *(CreateIndex(index) for index in _indexes(table))]
    return [str(statement.compile(dialect=dialect)).strip() + ";" for statement in found]


def creation(table: Table, dialect: str) -> list[CreateTable | CreateIndex]:
    """The same to be executed, harmless where some of it is there (except for MySQL's indexes)."""
    return [
        CreateTable(table, if_not_exists=True),
        *(CreateIndex(index, if_not_exists=dialect not in MYSQL) for index in _indexes(table)),
    ]


def _indexes(table: Table) -> list[Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))
