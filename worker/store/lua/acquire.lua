#!lua flags=allow-oom
-- Take the lease of a partition's sequencer, and read what there is to begin with.
--
-- KEYS  1 lease   2 state   3 bell   4 inbox   5 gaps
-- ARGV  1 lease ms   2 bell ms   3 token, one that nobody ever had (store/tokens.py)
--       4 most entries   5 most bytes of bodies   6 most entries to look at in one go   7 most teams
-- Returns  {1, cursor, lateness, what was read}   OK; see reading.lua
--          {0}                                    BUSY: another sequencer has the lease
--
-- The bell stays down while the sequencer works, so that nobody rings for what it is about to read anyway. The first
-- batch comes along, for on an idle system it is the only one, and somebody waits for it.
--#include reading
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {0}
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
local state = redis.call('HMGET', KEYS[2], 'cursor', 'lateness')
local cursor = state[1] or '0-0'
local first = read_inbox(KEYS[4], KEYS[5], cursor, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7])
return {1, cursor, state[2] or '', first}
