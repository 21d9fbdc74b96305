"""Every setting of Handoff: one class, read from ``HANDOFF_*`` environment variables and ``.env``.

The field descriptions are the reference: the table in README.md is printed from them (`handoff settings`), so a
setting says here what it means, its unit and what choosing another value costs. A wrong value stops the start
with one line that names the variable; the value itself is never printed, for it may be a secret.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, NoDecode, SettingsConfigDict

from worker import tls
from worker.address import EXAMPLES, Address, Kind, Malformed, parse
from worker.errors import ConfigurationError
from worker.from_files import FromFiles

DEFAULT_PARTITIONS = 16
MAX_PARTITIONS = 4096
MIN_SECRET = 8  # characters; fewer can be guessed

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)")


def seconds(value: object) -> float:
    """``"250ms"``, ``"10s"``, ``"6h5m"``, ``"90d"`` or a plain number of seconds, as seconds.

    Raises ``ValueError`` for anything else, negative numbers included.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(text := value.strip().replace(" ", "").lower()):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION_PART.findall(text))
    else:
        try:
            number = float(str(value))
        except ValueError:
            raise ValueError("must be a duration such as 250ms, 10s, 5m, 24h or 90d") from None
    if not 0 <= number < float("inf"):
        raise ValueError("must be a duration of zero or more")
    return number


def _commas(value: object) -> object:
    # Lines too: a file may have one for each.
    return [part.strip() for part in re.split(r"[,\n]", value) if part.strip()] if isinstance(value, str) else value


def _gap_wait(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "auto" else seconds(value)


Duration = Annotated[float, BeforeValidator(seconds)]
CommaList = Annotated[list[str], NoDecode, BeforeValidator(_commas)]
SecretList = Annotated[list[SecretStr], NoDecode, BeforeValidator(_commas)]


class Settings(FromFiles):
    """All settings. Durations are seconds once read; sizes are bytes."""

    model_config = SettingsConfigDict(
        env_prefix="HANDOFF_",
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Server that holds the state: Redis 7.0+ or Valkey 7.2+. `redis://`, `rediss://` or `unix://`; "
        "`redis+sentinel://user:password@host1:26379,host2:26379/mymaster/0` for the primary that Sentinels know; "
        "`redis+cluster://user:password@host1:7000,host2:7000` for a cluster. `rediss+...` with TLS.",
    )
    broker_url: str | None = Field(
        None,
        description="Server that carries the doorbells: any broker Celery supports. Default: the same as "
        "`HANDOFF_REDIS_URL`, which can't be a cluster then. Doorbells may be lost without harm, so it needs no "
        "durability.",
    )
    prefix: str = Field(
        "handoff",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="First part of every key, so that several installations can share a server.",
    )
    partitions: int | None = Field(
        None,
        ge=1,
        le=MAX_PARTITIONS,
        description="How many partitions teams are spread over; bounds how many sequencers work at once. Fixed at the "
        f"first start and kept in Redis (unset: {DEFAULT_PARTITIONS}); a process that disagrees refuses to start.",
    )
    webhook_secret: SecretList = Field(
        default_factory=list,
        validation_alias=AliasChoices("HANDOFF_WEBHOOK_SECRET", "INBOX_WEBHOOK_SECRET"),
        description="Signing secrets of the webhook, comma-separated; any of them is accepted, so put the new one "
        "beside the old while you rotate. `INBOX_WEBHOOK_SECRET` is read too.",
    )
    team_secrets: SecretList = Field(
        default_factory=list,
        description="`team=secret` pairs, comma-separated; repeat a team to rotate. A team named here is accepted only "
        "at `/webhooks/inbox/{team_id}` and only with its own secrets.",
    )
    handlers: CommaList = Field(
        default_factory=list,
        description="Python modules that define handlers of yours, comma-separated, the same for all workers. Handlers "
        "that come with Handoff are on when their variables are set; without any, `worker.handlers.log` is.",
    )
    dry_run: bool = Field(
        False,
        description="Show in the log what every handler would be called with, and call none: jobs are discarded, and "
        "`handoff replay` brings them back. For one handler: `HANDOFF_HANDLER_<NAME>_DRY_RUN`.",
    )
    bind: str = Field("127.0.0.1:8000", description="`host:port` that the ingress listens on.")
    max_body: ByteSize = Field(
        ByteSize(1024 * 1024),
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest request body, bytes (`1MiB`, `512KiB`); larger ones are answered 413 while being read.",
    )
    signature_max_age: Duration = Field(
        6 * 3600 + 300,
        description="How old a signature may be. The default is the provider's retry window plus five minutes; a "
        "replay inside it is a duplicate and does nothing. 300 is stricter, but refuses retries that were signed once.",
    )
    max_backlog: int = Field(
        1_000_000,
        ge=0,
        description="Accepted deliveries that may wait (unread, held or in lanes) before the ingress answers 503 and "
        "leaves them with the provider. 0: no bound but the server's memory.",
    )
    max_backlog_bytes: ByteSize = Field(
        ByteSize(2 * 1024**3),
        ge=0,
        description="The same in bytes of memory that they take. The default is a million of 2 KB: usual events meet "
        "`HANDOFF_MAX_BACKLOG` first, and this one holds for larger ones. 0: no bound but the server's memory.",
    )
    max_memory: float = Field(
        0.85,
        gt=0,
        le=1,
        description="Share of the server's `maxmemory`, if it has one, at which the ingress answers 503. The rest is "
        "for the work on what waits, and for what several ingresses store within about a second.",
    )
    durability: Literal["server", "fsync"] = Field(
        "server",
        description="What an answer of 202 waits for. `server`: the server's word, worth what its `appendfsync` says. "
        "`fsync`: its disk's, asked for with WAITAOF once a batch: Redis or Valkey 7.2+ with `appendfsync always`.",
    )
    dedup_window: Duration = Field(
        24 * 3600.0,
        ge=60,
        description="How long an event id is remembered at least. Longer costs about 50 bytes an event and window.",
    )
    gap_wait: Annotated[float | None, BeforeValidator(_gap_wait)] = Field(
        None,
        validate_default=False,
        description="How long an event waits for the missing numbers of its team: a duration, or `auto`: learnt "
        "from how late they really arrive. Longer waits mean fewer late events and slower ones after each gap.",
    )
    gap_wait_min: Duration = Field(0.02, description="With `auto`: the shortest wait.")
    gap_wait_max: Duration = Field(10.0, description="With `auto`: the longest wait.")
    held_max: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="Events of one team that may wait above a gap; over it the lowest goes first. Every batch with an "
        "event of that team looks at all of them: 7 ms for 1000, 70 ms for 10000.",
    )
    held_bytes: ByteSize = Field(
        ByteSize(64 * 1024 * 1024),
        ge=1024,
        description="The same in bytes of their bodies: a thousand of 64 KB.",
    )
    memory: Duration = Field(
        90 * 86400.0,
        ge=3600,
        description="How long a team's position and a prospect's owner are kept after they were last touched.",
    )
    quarantine_max: int = Field(
        10_000,
        ge=1,
        description="Quarantined deliveries kept in each partition; beyond it the oldest go.",
    )
    archive_events: int = Field(
        1000,
        ge=0,
        description="Released events kept in each partition for `handoff replay` and `handoff explain`; beyond it the "
        "oldest go. 0: none, and a body leaves with its last job.",
    )
    archive_bytes: ByteSize = Field(
        ByteSize(4 * 1024 * 1024), description="Bytes of bodies that the archive may keep in each partition."
    )
    archive_age: Duration = Field(7 * 86400.0, ge=1, description="How long the archive keeps an event at most.")
    deaf_after: Duration = Field(
        15.0,
        description="A worker that takes nothing for so long, while messages wait and it has a place for them, says so "
        "and exits with code 75, for its supervisor to start another. 5 s or more; coming back to a broker takes up to "
        "10. 0: never.",
    )
    drain: Duration = Field(
        5.0,
        description="How long the ingress goes on after SIGTERM with `/readyz` at 503, so that a proxy sees it before "
        "the door shuts: its interval between checks times the failures that it waits for, and a second. 0 with a "
        "socket that systemd holds. Whatever kills an ingress that does not end has to wait 10 s longer.",
    )
    grace: Duration = Field(
        25.0,
        description="How long calls may go on after a worker got SIGTERM; then they are cut off, and made again by "
        "another. Longer lets slower calls end, and restarts take longer. Whatever kills a worker that does not end "
        "(`terminationGracePeriodSeconds`, `stop_grace_period`, `TimeoutStopSec`) has to wait 5 s longer.",
    )
    log_level: str = Field(
        "INFO", pattern=r"(?i)^(debug|info|warning|error)$", description="Least level that is logged."
    )
    log_format: str = Field(
        "auto",
        pattern=r"^(auto|json|console)$",
        description="`json`, `console`, or `auto`: console on a terminal.",
    )

    @field_validator("webhook_secret")
    @classmethod
    def _no_short_secret(cls, value: list[SecretStr]) -> list[SecretStr]:
        if any(len(secret.get_secret_value()) < MIN_SECRET for secret in value):
            raise ValueError("a secret of under 8 characters can be guessed; copy the signing secret from the provider")
        return value

    @field_validator("team_secrets")
    @classmethod
    def _team_pairs(cls, value: list[SecretStr]) -> list[SecretStr]:
        for pair in value:
            team, separator, secret = pair.get_secret_value().partition("=")
            if not team or not separator or len(secret) < MIN_SECRET:
                raise ValueError("must be team=secret pairs, comma-separated, each secret of at least 8 characters")
        return value

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _server(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Refuse what redis-py passes over, and kombu answers with a traceback; both may quote from a password."""
        if value is None:
            return value
        setting = f"HANDOFF_{str(info.field_name).upper()}"
        try:
            if info.field_name == "broker_url":
                return ";".join(_checked_broker(setting, url) for url in value.split(";"))
            return _checked(setting, value)
        except Malformed as error:
            raise ConfigurationError(setting, str(error), error.remedy) from None

    @field_validator("deaf_after")
    @classmethod
    def _patient(cls, value: float) -> float:
        if 0 < value < 5:
            raise ValueError("must be 5 s or more, or 0: a worker that reconnects is not deaf")
        return value

    @field_validator("bind")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError("must be host:port, for instance 127.0.0.1:8000 or [::]:8000")
        return value

    @model_validator(mode="after")
    def _waits_are_shorter_than_memories(self) -> Self:
        """Relations between settings; the error names the one that is more likely the mistake."""
        longest = self.gap_wait_max if self.gap_wait is None else self.gap_wait
        for name, wrong, problem in (
            ("gap_wait_min", self.gap_wait_min > self.gap_wait_max, "is longer than HANDOFF_GAP_WAIT_MAX"),
            ("gap_wait", longest >= self.dedup_window, "and HANDOFF_GAP_WAIT_MAX must be below HANDOFF_DEDUP_WINDOW"),
            ("dedup_window", self.dedup_window > self.memory, "is longer than HANDOFF_MEMORY"),
        ):
            if wrong:
                raise ConfigurationError(f"HANDOFF_{name.upper()}", problem)
        return self

    @model_validator(mode="after")
    def _a_cluster_rings_elsewhere(self) -> Self:
        if self.broker_url is None and self.address.kind is Kind.CLUSTER:
            raise ConfigurationError(
                "HANDOFF_BROKER_URL",
                "has to name a server of its own: the state is in a cluster, which Celery can't use as its broker",
                "for instance redis://host:6379/0; it needs no durability",
            )
        return self

    @property
    def address(self) -> Address:
        """The server of the state, taken apart."""
        return parse(self.redis_url)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The webhook's signing secrets as the bytes that HMAC takes."""
        return tuple(secret.get_secret_value().encode() for secret in self.webhook_secret)

    @property
    def secrets_by_team(self) -> dict[str, tuple[bytes, ...]]:
        """Each team's own signing secrets."""
        found: dict[str, tuple[bytes, ...]] = {}
        for pair in self.team_secrets:
            team, _, secret = pair.get_secret_value().partition("=")
            found[team] = (*found.get(team, ()), secret.encode())
        return found

    @property
    def broker(self) -> str:
        """The URL of the server that carries the doorbells, as kombu writes it."""
        url = str(self.broker_url) if self.broker_address is None else self.broker_address.broker_url
        return ";".join(map(tls.for_kombu, url.split(";")))

    @property
    def broker_address(self) -> Address | None:
        """The server that carries the doorbells, taken apart; None for one that is no Redis, or for several."""
        url = self.broker_url or self.redis_url
        return parse(url) if _is_redis(url) and ";" not in url else None

    @property
    def rings_on_store(self) -> bool:
        """Whether the doorbells are on the server that holds the state."""
        return self.broker_url in {None, self.redis_url}

    @property
    def host_and_port(self) -> tuple[str, int]:
        """``bind`` taken apart; brackets around an IPv6 address are dropped."""
        host, _, port = self.bind.rpartition(":")
        return host.strip("[]"), int(port)


def _is_redis(url: str) -> bool:
    return url.partition("://")[0].partition("+")[0] in ("redis", "rediss", "unix")


def _checked(setting: str, url: str) -> str:
    """``url``, its TLS parameters as both libraries read them. Raises ``Malformed`` and ``ConfigurationError``."""
    found = parse(url)
    server = tls.checked(setting, found.server_url)
    return server if found.kind is Kind.SERVER else url


def _checked_broker(setting: str, url: str) -> str:
    """The same for one of the servers of a broker, of which kombu takes the first that answers."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "sentinel":
        raise Malformed("names Sentinels, but not the primary that they know", EXAMPLES["sentinel"])
    if separator and _is_redis(url):
        if parse(url).kind is Kind.CLUSTER:
            raise Malformed("is a cluster, which Celery can't use as its broker", EXAMPLES[""])
        return _checked(setting, url)
    from kombu.transport import TRANSPORT_ALIASES  # slow, and seldom needed

    if not separator or scheme.partition("+")[0] not in TRANSPORT_ALIASES:
        raise Malformed("must be a URL that begins with the name of a broker that Celery knows", EXAMPLES[""])
    return tls.checked(setting, url)


def _variable(location: tuple[Any, ...]) -> str:
    name = str(location[0]) if location else "HANDOFF_*"
    return name if name.isupper() else f"HANDOFF_{name.upper()}"


@functools.cache
def variables() -> Mapping[str, str]:
    """The environment and ``.env`` as the settings read them, names in capitals, read once. For what is no setting: the
    options of handlers. Raises ``ConfigurationError`` for a file that can't be read."""
    with _readable():
        read = [source(Settings).env_vars for source in (DotEnvSettingsSource, EnvSettingsSource)]
    return {name.upper(): value for found in read for name, value in found.items() if value is not None}


@functools.cache
def load_settings() -> Settings:
    """The settings of this process, read once. Raises ``ConfigurationError`` naming the first variable at fault."""
    try:
        with _readable():
            return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(_variable(first["loc"]), first["msg"].removeprefix("Value error, ")) from None


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        problem = f"can't be read: {error.strerror}" if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigurationError(".env", problem) from None
