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

-- Pages as long as what is over the number: mostly that is all there is to take out, and it is asked for often.
local taken, marks, entries, sizes, gone = 0, {}, {}, {}, {}
local over = left > 0
while over and taken < tonumber(ARGV[4]) do
  local page = math.max(1, math.min(left - most, ARGV[4] - taken))
  local records = redis.call('LRANGE', KEYS[1], taken, taken + page - 1)
  for _, record in ipairs(records) do
    local mark, handlers, released, entry, size = string.match(record, '^(%S+) (%S+) (%S+) (%S+) %S+ (%S+)')
    over = left > most or stored > bytes or tonumber(released) < oldest
    if not over then
      break
    end
    taken, left, stored = taken + 1, left - 1, stored - size
    marks[taken], entries[taken], sizes[taken] = mark, entry, size
    for handler in string.gmatch(handlers, '[^,]+') do
      gone[#gone + 1] = entry .. ' ' .. handler
    end
  end
  over = over and left > 0
end

local function in_chunks(command, key, words)
  for from = 1, #words, 1000 do
    redis.call(command, key, unpack(words, from, math.min(from + 999, #words)))
  end
end

if taken > 0 then
  users.expect(entries)
  local indexed = {}
  for from = 1, taken, 1000 do
    local found = redis.call('HMGET', KEYS[2], unpack(marks, from, math.min(from + 999, taken)))
    for index, value in ipairs(found) do
      local at = from + index - 1
      users.move(entries[at], ARCHIVED, 0, nil, sizes[at])
      -- Of an id that came again after it was forgotten, the index has the later entry.
      if value and string.match(value, '^%S+') == entries[at] then
        indexed[#indexed + 1] = marks[at]
      end
    end
  end
  redis.call('LTRIM', KEYS[1], taken, -1)
  in_chunks('HDEL', KEYS[2], indexed)
  in_chunks('HDEL', KEYS[3], gone)
  redis.call('HINCRBY', KEYS[6], 'trimmed', taken)
  redis.call('HINCRBY', KEYS[6], 'archive_bytes', string.format('%.0f', stored - before))
end
redis.call('LTRIM', KEYS[7], -math.max(1, most), -1)
users.finish()
return {taken, over and 1 or 0}
