#!lua flags=allow-oom
-- Take, or keep, the sweeper's lease. On a full server too: it is the sweeper that gets it emptied.
--
-- KEYS  1 sweeper
-- ARGV  1 token of the caller   2 lease ms
-- Returns  1 if the caller sweeps, 0 if another does
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
