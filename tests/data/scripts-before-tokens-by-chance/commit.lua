#!lua flags=allow-oom
-- Write a sequencer's plan, all of it or nothing, if the lease is still its own.
--
-- KEYS  1 lease   2 .. B+1 the bells of the runners that got jobs   then every key that the commands write
-- ARGV  1 token   2 lease ms   3 bell ms   4 B
--       then the commands, each: number of words that follow, command, index of its key in KEYS, arguments
-- Returns  {1, bells...}   OK; for each bell 1 if it is for the caller to ring, 0 if one is on its way already
--          {-1}            LEASE_LOST: nothing was written
--
-- Commands come in chunks that unpack() can take. allow-oom: this stores no body, and lets the backlog drain.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {-1}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local bells = tonumber(ARGV[4])
local at, last = 5, #ARGV
while at <= last do
  local words = tonumber(ARGV[at])
  redis.call(ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])], unpack(ARGV, at + 3, at + words))
  at = at + words + 1
end
local result = {1}
for bell = 1, bells do
  result[bell + 1] = redis.call('SET', KEYS[bell + 1], 1, 'NX', 'PX', ARGV[3]) and 1 or 0
end
return result
