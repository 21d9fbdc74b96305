"""Where the state is kept, as ``HANDOFF_REDIS_URL`` says it: one server, one behind Sentinels, or a cluster.

    redis://user:password@host:6379/0                           one server; rediss:// with TLS; unix:///run/valkey.sock?db=0
    redis+sentinel://user:password@h1:26379,h2:26379/name/0     the primary called ``name``, as these Sentinels know it
    redis+cluster://user:password@h1:7000,h2:7000               a cluster, of which these nodes are asked for the others

User and password are the servers'; Sentinels that want one have it as ``?sentinel_username=...&sentinel_password=...``.
``rediss+sentinel://`` and ``rediss+cluster://`` speak TLS, to the Sentinels too. What else stands after the question
mark is redis-py's (``ssl_ca_certs=...``, ...). Nothing here connects to anything, and no error quotes what it was
given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

SENTINEL_PORT: Final = 26379
SERVER_PORT: Final = 6379
EXAMPLES: Final = {
    "": "for instance redis://user:password@host:6379/0",
    "sentinel": "for instance redis+sentinel://user:password@host1:26379,host2:26379,host3:26379/mymaster/0",
    "cluster": "for instance redis+cluster://user:password@host1:7000,host2:7000,host3:7000",
}
_OWN: Final = ("sentinel_username", "sentinel_password")


class Kind(StrEnum):
    SERVER = ""
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Malformed(ValueError):
    """A URL that can't be used; ``remedy`` is an example of what it could be."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """``server_url`` is what redis-py takes for a server of it; host and port in it are the first of ``hosts``.

    ``hosts`` are Sentinels or nodes; one server has none here. ``service`` is the primary's name, ``sentinel_user`` and
    ``sentinel_password`` are "" where Sentinels want none.
    """

    kind: Kind
    server_url: str
    hosts: tuple[Host, ...] = ()
    service: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    @property
    def tls(self) -> bool:
        return self.server_url.startswith("rediss://")

    def url_of(self, host: Host) -> str:
        """What redis-py takes for another one of the servers."""
        scheme, _, rest = self.server_url.partition("://")
        return f"{scheme}://{self.credentials}{host}{rest[len(urlsplit(self.server_url).netloc) :]}"

    @property
    def credentials(self) -> str:
        """User and password as they stand in the URL, with the ``@``; "" without."""
        before, at, _ = urlsplit(self.server_url).netloc.rpartition("@")
        return before + at

    @property
    def database(self) -> str:
        return urlsplit(self.server_url).path.strip("/") or "0"

    @property
    def broker_url(self) -> str:
        """As kombu writes the same server (Sentinels: each one's URL, after semicolons). A cluster has none."""
        if self.kind is Kind.SENTINEL:
            return ";".join(f"sentinel://{self.credentials}{host}/{self.database}" for host in self.hosts)
        if not self.server_url.startswith("unix://"):
            return self.server_url
        parts = urlsplit(self.server_url)
        database = dict(parse_qsl(parts.query)).get("db", "0")
        return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def parse(url: str) -> Address:
    """Raises ``Malformed``."""
    scheme, separator, rest = url.partition("://")
    plain, plus, kind = scheme.partition("+")
    if not separator or plain not in ("redis", "rediss", "unix") or (plus and kind not in ("sentinel", "cluster")):
        schemes = "redis://, rediss:// or unix://, or redis+sentinel:// or redis+cluster://"
        raise Malformed(f"must be a URL that begins with {schemes}", EXAMPLES[""])
    if plain == "unix":
        if plus:
            raise Malformed("Sentinels and clusters are reached over a network", EXAMPLES[kind])
        return Address(Kind.SERVER, url)
    if not plus:
        _check(url, "/?[0-9]*", "must end in the number of a database", EXAMPLES[""])
        return Address(Kind.SERVER, url)
    example = EXAMPLES[kind]
    place, query_mark, query = rest.partition("?")
    authority, _, path = place.partition("/")
    before, at, listed = authority.rpartition("@")
    port = SENTINEL_PORT if kind == "sentinel" else SERVER_PORT
    hosts = tuple(_host(one, port, example) for one in listed.split(","))
    options = parse_qsl(query, keep_blank_values=True)
    if "db" in dict(options):
        raise Malformed("has its database in the path, not after the question mark", example)
    own = dict(options)
    query = urlencode([pair for pair in options if pair[0] not in _OWN])
    head, tail = f"{plain}://{before}{at}{hosts[0]}", f"{query_mark and query and '?'}{query}"
    if kind == "cluster":
        if path.strip("/") not in ("", "0"):
            raise Malformed("a cluster has database 0 and no other", example)
        server = Address(Kind.CLUSTER, f"{head}/0{tail}", hosts)
        if own.keys() & set(_OWN):
            raise Malformed("a cluster has no Sentinels", example)
    else:
        service, _, database = path.partition("/")
        if not service or not re.fullmatch("[0-9]*", database):
            raise Malformed("must end in the primary's name and the number of a database", example)
        user, password = (own.get(name, "") for name in _OWN)
        server = Address(Kind.SENTINEL, f"{head}/{database or 0}{tail}", hosts, unquote(service), user, password)
    _check(server.server_url, "/[0-9]+", "is not readable", example)
    return server


def _host(text: str, default_port: int, example: str) -> Host:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@?#\[\]]+))(?::([0-9]{1,5}))?", text)
    if found is None or not 0 < int(found[3] or default_port) < 65536:
        raise Malformed("has no readable hosts and ports", f"{example}; in a password, / ? # are %2F %3F %23")
    return Host(found[1] or found[2], int(found[3] or default_port))


def _check(url: str, path: str, problem: str, example: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Malformed("has no readable host and port", "in a password, / ? # are %2F %3F %23") from None
    if not re.fullmatch(path, parts.path):
        raise Malformed(problem, example)
