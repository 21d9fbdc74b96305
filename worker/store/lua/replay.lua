#!lua flags=allow-oom
-- Give released events to a handler again: a piece of the archive, all of it or nothing.
--
-- KEYS  1 archive   2 ledger   3 refs   4 inbox   5 ready   6 blocked   7 ends   8 replays
--       9 prefix of the handler's lane keys (same hash tag)   then the owners' keys
-- ARGV  1 handler   2 replay   3 position where this replay is   4 position after the piece
--       then per event: its position, its record, the record to write, lane, job, how its job ended ('' if not),
--       index of its prospect's owner in KEYS (0: none), the owner ('' if none)
-- Returns  'ok'         done
--          'elsewhere'  the replay is at another position: somebody else goes on with it
--          'changed'    a record, an end or an owner is not as it was decided by: decide again
--
-- The jobs go to the ends of their lanes. A record names every handler that had a job, so that its end can be forgotten
-- with it.
--#include users
if (redis.call('HGET', KEYS[8], ARGV[2]) or '') ~= ARGV[3] then
  return 'elsewhere'
end
local trimmed = tonumber(redis.call('HGET', KEYS[2], 'trimmed') or 0)
for at = 5, #ARGV, 8 do
  local entry = string.match(ARGV[at + 4], '^%S+')
  local owner = tonumber(ARGV[at + 6])
  if redis.call('LINDEX', KEYS[1], ARGV[at] - trimmed) ~= ARGV[at + 1]
      or tonumber(ARGV[at]) < trimmed
      or (redis.call('HGET', KEYS[7], entry .. ' ' .. ARGV[1]) or '') ~= ARGV[at + 5]
      or (owner > 0 and (redis.call('GET', KEYS[owner]) or '') ~= ARGV[at + 7]) then
    return 'changed'
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local users = users_of(KEYS[3], KEYS[4], KEYS[2])
local count = 0
for at = 5, #ARGV, 8 do
  local record, lane, job = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local entry = string.match(job, '^%S+')
  redis.call('RPUSH', KEYS[9] .. lane, job)
  redis.call('ZADD', KEYS[5], 'NX', redis.call('HEXISTS', KEYS[6], lane) == 1 and '+inf' or now, lane)
  redis.call('LSET', KEYS[1], ARGV[at] - trimmed, record)
  redis.call('HDEL', KEYS[7], entry .. ' ' .. ARGV[1])
  users.move(entry, 0, 1, ARCHIVED, string.match(job, '^%S+ %S+ (%d+)'))
  count = count + 1
end
if count > 0 then
  redis.call('HINCRBY', KEYS[2], 'routed:' .. ARGV[1], count)
end
redis.call('HSET', KEYS[8], ARGV[2], ARGV[4])
users.finish()
return 'ok'
