#!lua flags=allow-oom
-- Put dead letters back to the end of their lanes, each by itself: a letter becomes a waiting job or stays what it is.
--
-- KEYS  1 dead   2 refs   3 inbox   4 ledger   5 ends
--       then per letter: ready, lane, blocked (of its handler), the owner record of its prospect
-- ARGV  per letter: its id, handler, name of its lane, text of the job, the owner record that was looked at ('' for none,
--       '*' when it does not matter)
-- Returns  a word per letter
--          revived  it is a job again     gone     it is no dead letter any more
--          changed  the owner record is another by now, or that of an earlier letter for its lane was: nothing was written,
--                   and whether it is overtaken is to be decided anew
--
-- Whoever releases a newer change of the prospect writes the owner record in the same script as the jobs. So as long as the
-- record is what it was, no newer job can be in the lane, and none comes before this one.
--#include users
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local users = users_of(KEYS[2], KEYS[3], KEYS[4])
local counts, ends, changed, result = {}, {}, {}, {}

for at = 1, #ARGV, 5 do
  local id, handler, lane, job, owner = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local keys = 6 + (at - 1) / 5 * 4
  local ready, list, blocked = KEYS[keys], KEYS[keys + 1], KEYS[keys + 2]
  if owner ~= '*' and (redis.call('GET', KEYS[keys + 3]) or '') ~= owner then
    changed[list] = true
  end
  if changed[list] then
    result[#result + 1] = 'changed'
  elseif redis.call('XDEL', KEYS[1], id) == 0 then
    result[#result + 1] = 'gone'
  else
    local entry, size = string.match(job, '^(%S+) %S+ (%S+)')
    if users.move(entry, DEAD, 1, nil, size) then
      ends[#ends + 1] = entry .. ' ' .. handler
    end
    redis.call('RPUSH', list, job)
    -- NX: a lane that is claimed, backing off or blocked keeps its time.
    redis.call('ZADD', ready, 'NX', redis.call('HEXISTS', blocked, lane) == 1 and '+inf' or now, lane)
    counts[handler] = (counts[handler] or 0) + 1
    result[#result + 1] = 'revived'
  end
end

for handler, count in pairs(counts) do
  redis.call('HINCRBY', KEYS[4], 'dead:' .. handler, -count)
end
for from = 1, #ends, 1000 do
  redis.call('HDEL', KEYS[5], unpack(ends, from, math.min(from + 999, #ends)))
end
users.finish()
return result
