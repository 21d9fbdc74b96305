"""Hours in which nobody is to be disturbed, by a clock on a wall: ``22:00-07:00``."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo


class QuietHours(NamedTuple):
    """From ``start`` until ``end``, over midnight where that is the earlier one, each day in ``zone``."""

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> Self:
        """Of ``HH:MM-HH:MM``. Raises ``ValueError``."""
        try:
            start, end = (time.fromisoformat(part.strip().zfill(5)) for part in text.split("-"))
        except ValueError:
            start = end = time()
        if start == end or start.tzinfo or end.tzinfo:
            raise ValueError("must be two times of day, such as 22:00-07:00")
        return cls(start, end, zone)

    def left(self, now: datetime) -> float:
        """Seconds until they end, by the clock that people see (a changed clock included); 0.0 outside of them.
        ``now`` has a time zone."""
        local = now.astimezone(self.zone)
        clock = local.time()
        if self.start < self.end:
            within, days = self.start <= clock < self.end, 0
        else:
            within, days = clock >= self.start or clock < self.end, int(clock >= self.start)
        if not within:
            return 0.0
        end = datetime.combine(local.date() + timedelta(days), self.end, self.zone)
        # Two times of one zone are subtracted by their clocks: not what has passed where the clock was changed.
        # At least a moment: in the hour that comes twice, the end may be the first of the two and be over.
        return max(1.0, (end.astimezone(UTC) - now.astimezone(UTC)).total_seconds())


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name. Raises ``ValueError``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None
