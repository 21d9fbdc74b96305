"""Who a member is. Events name the owner by a member id, which is no user id and no e-mail (PROVIDER.md 5); other
programs know people by their e-mail.

    members = Members.load()
    found = await members.find(["k3x..."])  # {"k3x...": Member(id="k3x...", email="ann@example.com", name="Ann")}

They are known from ``HANDOFF_MEMBERS``, or from Inbox's ``GET /members`` with ``HANDOFF_INBOX_TOKEN``, or from both:
what is set by hand holds. The provider is asked when an id comes up that is not known, at most once a minute, and
once an hour for changed addresses; its answers are kept per process. While it is away, what is known goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Self
from weakref import WeakKeyDictionary

import httpx

from worker.errors import ConfigurationError
from worker.member_settings import Options
from worker.outgoing import answer_of, client

REFRESH_UNKNOWN: Final = 60.0  # seconds between two questions because of ids that are not known
REFRESH_ALL: Final = 3600.0


class Member(NamedTuple):
    """``name`` is None where only the address was set."""

    id: str
    email: str
    name: str | None = None


class Members:
    """The directory of one process. ``tokens`` are Inbox's, one for each team."""

    def __init__(
        self,
        emails: Mapping[str, str],
        tokens: Sequence[str] = (),
        url: str = "https://inboxapp.com/api/v1",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._set = {member: Member(member, email) for member, email in emails.items()}
        self._tokens = tuple(tokens)
        self._url = url.rstrip("/")
        self._clock = clock
        self._listed: dict[str, dict[str, Member]] = {}  # by token, so that one that fails takes away no other's
        self._absent: set[str] = set()  # who was looked for in the last lists, and was in none
        self._asked = -float("inf")
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @classmethod
    def load(cls) -> Self:
        """As the settings say. Raises ``ConfigurationError`` if they name nobody and nowhere to ask."""
        options = Options.load()
        if not options.members and not options.inbox_token:
            raise ConfigurationError(
                "HANDOFF_INBOX_TOKEN", "is not set", "or name the members: HANDOFF_MEMBERS=member id=e-mail,..."
            )
        for member, email in options.members.items():
            if "@" not in email:
                raise ConfigurationError("HANDOFF_MEMBERS", f"has no e-mail for member {member!r}")
        return cls(options.members, [token.get_secret_value() for token in options.inbox_token], options.inbox_url)

    def known(self, ids: Collection[str]) -> dict[str, Member]:
        """Those of ``ids`` that are known already."""
        found = {}
        for listed in (*self._listed.values(), self._set):
            found.update({member: listed[member] for member in ids if member in listed})
        return found

    async def find(self, ids: Collection[str]) -> dict[str, Member]:
        """Those of ``ids`` that there are. Raises ``httpx.HTTPError`` where Inbox had to be asked and has not told;
        ``known`` still has the others then."""
        if self._due(ids):
            async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if self._due(ids):  # another call may have asked meanwhile
                    await self._refresh(ids)
        return self.known(ids)

    def unsure(self, member: str) -> float:
        """Seconds until Inbox will be asked who ``member`` is; 0.0 where all is said. Somebody may have joined the team
        since the last list, so until then an id that ``find`` does not know is to be tried again, not given up."""
        if not self._tokens or member in self._absent or self.known([member]):
            return 0.0
        return max(0.0, self._asked + REFRESH_UNKNOWN - self._clock())

    def _due(self, ids: Collection[str]) -> bool:
        if not self._tokens or self._set.keys() >= set(ids):
            return False
        wait = REFRESH_ALL if len(self.known(ids)) == len(set(ids)) else REFRESH_UNKNOWN
        return self._clock() - self._asked >= wait

    async def _refresh(self, ids: Collection[str]) -> None:
        trouble = None
        for token in self._tokens:
            try:
                self._listed[token] = await self._list(token)
            except httpx.HTTPError as error:
                trouble = error
        missing = set(ids) - self.known(ids).keys()
        if trouble is not None and missing:
            raise trouble  # nobody was told of those, so the next call asks again
        self._asked = self._clock()
        self._absent = missing

    async def _list(self, token: str) -> dict[str, Member]:
        response = await client("inbox").get(f"{self._url}/members", headers={"Authorization": f"Bearer {token}"})
        found = {}
        for each in answer_of(response, list):
            if isinstance(each, dict) and isinstance(each.get("id"), str) and isinstance(each.get("email"), str):
                name = each.get("name")
                found[each["id"]] = Member(each["id"], each["email"].strip(), name if isinstance(name, str) else None)
        return found
