"""A database by its URL, for handlers that write to one: an engine of SQLAlchemy for each process, time limits in the
words of each driver, transactions, and whom an error is about. For PostgreSQL, MySQL, MariaDB and SQLite."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from worker.errors import ConfigurationError

MYSQL: Final = ("mysql", "mariadb")
NAMES: Final = ("postgresql", "sqlite", *MYSQL)
PACKAGES: Final = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # by module
OF_A_ROW: Final = ("22", "23", "44", "P0001", "45000")  # SQLSTATEs: the data, a constraint, a view, a trigger's own
ANEW: Final = ("40001", "40P01")
MYSQL_SIGNAL: Final = 1644  # a trigger's own, which PyMySQL calls an OperationalError
MYSQL_DEADLOCK: Final = 1213
RECYCLE: Final = 1800  # seconds; firewalls forget connections that are idle for longer
GRACE: Final = 5  # seconds after which a server that should have given up a statement is taken to be gone


def parsed(text: str) -> URL:
    """Raises ``ValueError`` in words that quote nothing."""
    try:
        url = make_url(text)
        dialect = url.get_dialect()
    except (ArgumentError, ValueError, NoSuchModuleError):
        raise ValueError("must be a URL of SQLAlchemy, such as postgresql+psycopg://user:password@host/name") from None
    except ImportError:  # a dialect is somebody's package, too
        raise ValueError("needs a package that is not installed") from None
    if url.get_backend_name() not in NAMES:
        raise ValueError(f"must be of one of {', '.join(NAMES)}")
    if dialect.is_async:
        raise ValueError("names an async driver, and this one has to be plain")
    if "@" in (url.host or ""):
        raise ValueError("has an @ too many: write %40 for the one in the password")
    if dialect.name == "sqlite" and (url.database or ":memory:") == ":memory:":
        raise ValueError("must name a file: each process would have a memory of its own")
    return url


class Database:
    """Where ``url`` points to. ``connecting`` and ``statement``: the most seconds for a connection, and for a statement
    or a lock."""

    def __init__(self, url: URL, *, connecting: float, statement: float) -> None:
        self.url = url
        self.backend = url.get_backend_name()
        self._connecting = connecting
        self._statement = statement
        self._engines: dict[int, Engine] = {}  # never taken out: a child must not end its parent's connections
        self._turn = threading.Lock()

    def check_driver(self, setting: str) -> None:
        """Raises ``ConfigurationError`` naming the package to install."""
        try:
            self.url.get_dialect().import_dbapi()
        except ImportError as error:
            module = (error.name or self.url.get_driver_name()).partition(".")[0]
            package = PACKAGES.get(module, module)
            raise ConfigurationError(
                setting, f"the driver {module!r} is not installed", f"pip install '{package}'"
            ) from None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Raises SQLAlchemy's errors."""
        with self.engine().connect() as connection, connection.begin():
            try:
                if self.backend == "postgresql":  # not as the session's own: a pooler's next user would have it
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(self._statement * 1000)}")
                yield connection
            except DBAPIError:
                raise
            except BaseException:  # a time limit, in the midst of an answer: nobody can go on with this connection
                connection.invalidate()
                raise

    def engine(self) -> Engine:
        """This process's own, with its pool."""
        with self._turn:
            found = self._engines.get(os.getpid())
            if found is None:
                found = self._engines[os.getpid()] = self._engine()
            return found

    def _engine(self) -> Engine:
        served = {} if self.backend == "sqlite" else {"isolation_level": "READ COMMITTED", "pool_recycle": RECYCLE}
        made = create_engine(
            self.url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=self._connecting,
            connect_args={name: value for name, value in self.limits().items() if name not in self.url.query},
            **served,
        )
        if self.backend in MYSQL:
            event.listen(made, "connect", self._mysql_session)
        return made

    def limits(self) -> dict[str, Any]:
        """The time limits as the driver wants them told; a driver that is not known here keeps its own."""
        connecting, statement = max(1, round(self._connecting)), max(1, round(self._statement))
        match self.url.get_driver_name():
            case "psycopg" | "psycopg2":
                alive = {"keepalives_idle": statement, "keepalives_interval": GRACE, "keepalives_count": 3}
                silent = {"tcp_user_timeout": (statement + GRACE) * 1000}
                return {"connect_timeout": connecting, "application_name": "handoff", **alive, **silent}
            case "pymysql" | "mysqldb":
                answer = {"read_timeout": statement + GRACE, "write_timeout": statement + GRACE}
                return {"connect_timeout": connecting, **answer}
            case "mysqlconnector":
                return {"connection_timeout": connecting}
            case "pysqlite":
                return {"timeout": self._statement}
            case _:
                return {}

    def _mysql_session(self, connection: Any, _record: object) -> None:
        """Too long a text is an error and not cut, and a lock is waited for as long as a statement."""
        cursor = connection.cursor()
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')")
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, round(self._statement))}")
        cursor.close()

    def words(self, error: SQLAlchemyError) -> str:
        """The error's class and the first line of what the database says, without the password and without values: what
        PostgreSQL says of a row's other columns is in further lines."""
        said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = next((line.strip() for line in str(said).splitlines() if line.strip()), "")
        password = str(self.url.password or "")
        for secret in sorted({password, quote(password, safe=""), quote_plus(password)} - {""}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return f"{type(said).__name__}: {text[:300]}"


def is_of_a_row(error: DBAPIError) -> bool:
    """Whether it is about the data that was to be written, and not about the database."""
    told = _state(error).startswith(OF_A_ROW) or number(error) == MYSQL_SIGNAL
    return told or not {"IntegrityError", "DataError"}.isdisjoint(base.__name__ for base in type(error).__mro__)


def is_anew(error: DBAPIError) -> bool:
    """Whether the same may go well at once: transactions stood in each other's way."""
    return _state(error) in ANEW or number(error) == MYSQL_DEADLOCK


def _state(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "")


def number(error: DBAPIError) -> object:
    """MySQL's number of an error; None for whatever is no number."""
    found = next(iter(getattr(error.orig, "args", ())), None)
    return found if isinstance(found, int) else None
