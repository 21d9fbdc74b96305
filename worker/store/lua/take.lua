#!lua flags=allow-oom
-- Take calls out of a handler's rate: at most so many in any stretch of the given length.
--
-- KEYS  1 the calls granted lately, a list of "ms count", oldest first
-- ARGV  1 calls   2 length of the stretch, ms   3 wanted (negative: give so many of the newest back)
-- Returns  {granted, wait}   wait: ms until at least one more can be granted, 0 if one can now
--
-- A log of what was granted, and not a refilled bucket: a bucket lets twice the calls through around its refill.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local calls, stretch, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function parse(grant)
  local at, count = string.match(grant, '^(%d+) (%d+)$')
  return tonumber(at), tonumber(count)
end

if wanted < 0 then
  local newest = redis.call('RPOP', KEYS[1])
  if newest then
    local at, count = parse(newest)
    if count + wanted > 0 then
      redis.call('RPUSH', KEYS[1], string.format('%.0f %d', at, count + wanted))
    end
  end
  return {0, 0}
end

local used, oldest = 0, nil
for _, grant in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local at, count = parse(grant)
  if at <= now - stretch then
    redis.call('LPOP', KEYS[1])
  else
    oldest = oldest or at
    used = used + count
  end
end
local granted = math.min(wanted, calls - used)
if granted > 0 then
  redis.call('RPUSH', KEYS[1], string.format('%.0f %d', now, granted))
  redis.call('PEXPIRE', KEYS[1], stretch)
  oldest = oldest or now
  used = used + granted
else
  granted = 0
end
local wait = 0
if used >= calls then
  wait = oldest + stretch - now
end
return {granted, wait}
