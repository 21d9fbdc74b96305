#!lua flags=allow-oom
-- What of a partition is due, for the sweeper; the bells it has to ring are marked as rung.
--
-- KEYS  1 state   2 inbox   3 gaps   4 the sequencer's bell   5 its lease
--       then per handler: ready, the runner's bell
-- ARGV  1 bell ms
-- Returns  {next, sequencer, handler...}
--          next        ms until something is due that is not yet ('' if nothing)
--          the others  1 if the caller is to ring
--
-- A lane that is blocked (+inf) is never due. A bell that is on its way is not rung again until it is taken for lost. A sequencer at work needs none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local soonest = nil

local function due(score)
  if not score or score == 'inf' then
    return false
  end
  score = tonumber(score)
  if score <= now then
    return true
  end
  if not soonest or score < soonest then
    soonest = score
  end
  return false
end

local function ring(bell)
  return redis.call('SET', bell, 1, 'NX', 'PX', ARGV[1]) and 1 or 0
end

local result = {'', 0}
local cursor = redis.call('HGET', KEYS[1], 'cursor') or '0-0'
local waiting = #redis.call('XRANGE', KEYS[2], '(' .. cursor, '+', 'COUNT', 1) > 0
if due(redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]) or waiting then
  if redis.call('EXISTS', KEYS[5]) == 0 then
    result[2] = ring(KEYS[4])
  end
end
for at = 6, #KEYS, 2 do
  local first = redis.call('ZRANGE', KEYS[at], 0, 0, 'WITHSCORES')
  result[#result + 1] = due(first[2]) and ring(KEYS[at + 1]) or 0
end
if soonest then
  result[1] = string.format('%.0f', soonest - now)
end
return result
