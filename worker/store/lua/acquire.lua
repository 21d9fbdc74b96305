#!lua flags=allow-oom
-- Take the lease of a partition's sequencer.
--
-- KEYS  1 lease   2 state   3 bell
-- ARGV  1 lease ms   2 bell ms   3 token, one that nobody ever had (store/tokens.py)
-- Returns  {1, cursor, lateness}   OK
--          {0}                     BUSY: another sequencer has the lease
--
-- The bell stays down while the sequencer works, so that nobody rings for what it is about to read anyway.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {0}
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
local state = redis.call('HMGET', KEYS[2], 'cursor', 'lateness')
return {1, state[1] or '0-0', state[2] or ''}
