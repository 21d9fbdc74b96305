#!lua flags=allow-oom
-- Pause lanes of a handler: nothing of them is called until a person lets them on, nor what comes to them later.
--
-- KEYS  1 ready   2 claims   3 blocked
-- ARGV  1 who does it   then the lanes
-- Returns  a word per lane
--          paused    it is; of one whose jobs run now, the call in hand ends first (settle.lua)
--          already   it is blocked or paused as it is
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local result = {}
for at = 2, #ARGV do
  local lane = ARGV[at]
  if redis.call('HEXISTS', KEYS[3], lane) == 1 then
    result[#result + 1] = 'already'
  else
    redis.call('HSET', KEYS[3], lane, cjson.encode({why = 'paused', at = now, by = ARGV[1]}))
    -- A claimed lane keeps the end of its lease: whoever has it may be at work.
    if string.match(redis.call('HGET', KEYS[2], lane) or '0', '^%d+') == '0' then
      redis.call('ZADD', KEYS[1], 'XX', '+inf', lane)
    end
    result[#result + 1] = 'paused'
  end
end
return result
