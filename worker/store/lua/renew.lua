#!lua flags=allow-oom
-- Keep claimed lanes while their jobs run.
--
-- KEYS  1 ready   2 claims
-- ARGV  1 lease ms   then pairs: token, lane
-- Returns  the lanes that are no longer the caller's
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lost = {}
for at = 2, #ARGV, 2 do
  local claim = redis.call('HGET', KEYS[2], ARGV[at + 1])
  if claim and string.match(claim, '^%d+') == ARGV[at] then
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[at + 1])
  else
    lost[#lost + 1] = ARGV[at + 1]
  end
end
return lost
