#!lua flags=allow-oom
-- Take the oldest records out of a partition's archive: those over its bounds. May run at any time, by anybody.
--
-- KEYS  1 archive   2 ids   3 ends   4 refs   5 inbox   6 ledger   7 again
-- ARGV  1 most records   2 most bytes of bodies   3 time (ms) before which a release is too old   4 most to take out now
-- Returns  {taken, more}   more: 1 if others are over the bounds too
--
-- A body leaves the inbox with its record, unless it has other users.
--#include users
local most, bytes, oldest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local users = users_of(KEYS[4], KEYS[5], KEYS[6])
local left = redis.call('LLEN', KEYS[1])
local stored = tonumber(redis.call('HGET', KEYS[6], 'archive_bytes') or 0)
local before = stored

local records = left > 0 and redis.call('LRANGE', KEYS[1], 0, ARGV[4] - 1) or {}
local taken, marks, entries, gone = 0, {}, {}, {}
for _, record in ipairs(records) do
  local mark, handlers, released, entry, size = string.match(record, '^(%S+) (%S+) (%S+) (%S+) %S+ (%S+)')
  if left <= most and stored <= bytes and tonumber(released) >= oldest then
    break
  end
  taken, left, stored = taken + 1, left - 1, stored - size
  marks[taken], entries[taken] = mark, entry
  for handler in string.gmatch(handlers, '[^,]+') do
    gone[#gone + 1] = entry .. ' ' .. handler
  end
  users.move(entry, ARCHIVED, 0, nil, size)
end
if taken > 0 then
  redis.call('LTRIM', KEYS[1], taken, -1)
  for from = 1, taken, 1000 do
    -- Of an id that came again after it was forgotten, the index has the later entry.
    local found = redis.call('HMGET', KEYS[2], unpack(marks, from, math.min(from + 999, taken)))
    for index, value in ipairs(found) do
      if value and string.match(value, '^%S+') == entries[from + index - 1] then
        redis.call('HDEL', KEYS[2], marks[from + index - 1])
      end
    end
  end
  for from = 1, #gone, 1000 do
    redis.call('HDEL', KEYS[3], unpack(gone, from, math.min(from + 999, #gone)))
  end
  redis.call('HINCRBY', KEYS[6], 'trimmed', taken)
  redis.call('HINCRBY', KEYS[6], 'archive_bytes', string.format('%.0f', stored - before))
end
redis.call('LTRIM', KEYS[7], -math.max(1, most), -1)
users.finish()
return {taken, (taken == #records and taken > 0 and left > 0) and 1 or 0}
