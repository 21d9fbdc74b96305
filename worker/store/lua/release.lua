#!lua flags=allow-oom
-- Let go of the sequencer's lease, unless there is more to read.
--
-- KEYS  1 lease   2 state   3 bell   4 inbox   5 gaps
-- ARGV  1 token   2 bell ms   3 "1" to let go in any case (the time slice is over)
-- Returns  {0, deadline}   DONE: nothing to read; deadline (ms, '' if none) is when the next gap's wait is over
--          {1}             MORE: there is more; the lease is still the caller's
--          {2}             HANDED_ON: let go with more to read; the bell is down, the caller rings it
--          {-1}            LEASE_LOST
--
-- Looking and letting go are one step: an event that arrives in between would have its bell answered with BUSY.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {-1}
end
local cursor = redis.call('HGET', KEYS[2], 'cursor') or '0-0'
local more = #redis.call('XRANGE', KEYS[4], '(' .. cursor, '+', 'COUNT', 1) > 0
if more and ARGV[3] ~= '1' then
  return {1}
end
redis.call('DEL', KEYS[1])
if more then
  redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
  return {2}
end
redis.call('DEL', KEYS[3])
local next_gap = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
return {0, next_gap[2] or ''}
