#!lua flags=allow-oom
-- Take the lease of a partition's sequencer.
--
-- KEYS  1 lease   2 state   3 bell
-- ARGV  1 lease ms   2 bell ms
-- Returns  {token, cursor, lateness}   token is new and larger than every one before it
--          {0}                         BUSY: another sequencer has the lease
--
-- The bell stays down while the sequencer works, so that nobody rings for what it is about to read anyway.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {0}
end
local token = redis.call('HINCRBY', KEYS[2], 'fence', 1)
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
local state = redis.call('HMGET', KEYS[2], 'cursor', 'lateness')
return {token, state[1] or '0-0', state[2] or ''}
