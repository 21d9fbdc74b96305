#!lua flags=allow-oom
-- Forget dead letters. Their jobs stay counted as given up; a body leaves the inbox with its last user.
--
-- KEYS  1 dead   2 refs   3 inbox   4 ledger   5 ends
-- ARGV  per letter: its id, its handler, the id of its event's body in the inbox, bytes of that
-- Returns  a number per letter: 1 it was dropped   0 it is no dead letter any more
--#include users
local users = users_of(KEYS[2], KEYS[3], KEYS[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local result = {}
for at = 1, #ARGV, 4 do
  local found = redis.call('XDEL', KEYS[1], ARGV[at])
  if found == 1 and users.move(ARGV[at + 2], DEAD, 0, nil, ARGV[at + 3]) then
    local name = ARGV[at + 2] .. ' ' .. ARGV[at + 1]
    local attempts = string.match(redis.call('HGET', KEYS[5], name) or '', '%d+$') or '0'
    redis.call('HSET', KEYS[5], name, string.format('dropped %.0f %s', now, attempts))
  end
  result[#result + 1] = found
end
users.finish()
return result
