"""The process of ``bare``: reads a stream in batches, one Lua call for each. ``python -m ... URL LIST_PREFIX``."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec
import redis

STREAM: Final = "bench:stream"
NEXT: Final = "bench:next"
SEEN: Final = "bench:seen"
HELD: Final = "bench:held:"
BATCH: Final = 512

# KEYS: stream, seen (set), next (hash). ARGV: prefix of the lists, prefix of the held ones, last entry, then team, seq
# and id of each delivery. What was seen is dropped; what is next of its team is appended, and what waited behind it.
_BATCH: Final = """
local due = {}
for i = 4, #ARGV, 3 do
  local team, seq = ARGV[i], tonumber(ARGV[i + 1])
  if redis.call('SADD', KEYS[2], ARGV[i + 2]) == 1 then
    local at = due[team] or tonumber(redis.call('HGET', KEYS[3], team))
    if seq == at then
      redis.call('RPUSH', ARGV[1] .. team, seq)
      at = at + 1
      local held = redis.call('ZRANGE', ARGV[2] .. team, 0, -1)
      local ready = 0
      while held[ready + 1] and tonumber(held[ready + 1]) == at do
        redis.call('RPUSH', ARGV[1] .. team, at)
        ready, at = ready + 1, at + 1
      end
      if ready > 0 then redis.call('ZREMRANGEBYRANK', ARGV[2] .. team, 0, ready - 1) end
    else
      redis.call('ZADD', ARGV[2] .. team, seq, seq)
    end
    due[team] = at
  end
end
for team, at in pairs(due) do redis.call('HSET', KEYS[3], team, at) end
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[3])
return 1
"""


class Delivery(msgspec.Struct, gc=False):
    id: str
    seq: int
    teamId: str  # noqa: N815 - the provider's spelling


def main(url: str, lists: str) -> None:
    decode = msgspec.json.Decoder(Delivery).decode
    with redis.Redis.from_url(url) as client:
        client.set_response_callback("XREAD", lambda response, **_: response)
        batch = client.register_script(_BATCH)
        last: bytes = b"0-0"
        while True:
            answer: Any = client.execute_command("XREAD", "COUNT", BATCH, "BLOCK", 0, "STREAMS", STREAM, last)
            entries = (answer if isinstance(answer, dict) else dict(answer))[STREAM.encode()]
            arguments: list[Any] = [lists, HELD, entries[-1][0]]
            for _, fields in entries:
                delivery = decode(fields[1])
                arguments += (delivery.teamId, delivery.seq, delivery.id)
            batch(keys=[STREAM, SEEN, NEXT], args=arguments)
            last = entries[-1][0]


if __name__ == "__main__":
    main(*sys.argv[1:])
