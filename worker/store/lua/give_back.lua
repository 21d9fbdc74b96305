#!lua flags=allow-oom
-- Give calls back that a team's rate granted, and that were not made.
--
-- KEYS  1 the calls granted lately
-- ARGV  1 length of the stretch, ms   2 calls   3 when they were granted, ms
-- Returns  OK
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
--#include grants

Grants.undo(KEYS[1], tonumber(ARGV[1]), now, tonumber(ARGV[2]), tonumber(ARGV[3]))
return redis.status_reply('OK')
