#!lua flags=allow-oom
-- How much longer a call that has room for many jobs should wait for more of them.
--
-- KEYS  1 ready   2 bell   3 prefix of the handler's lane keys (same hash tag)
-- ARGV  1 jobs that fill it   2 longest wait, ms
-- Returns  ms to wait   0: there are enough, or the first has waited that long, or nothing is due
--
-- A lane waits from when it was due, so nobody has to remember when the waiting began. The bell is taken down: whoever
-- adds jobs meanwhile rings again, and the call goes out as soon as it is full.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[2])
local lanes = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
if #lanes == 0 then
  return 0
end
local wait = lanes[2] + ARGV[2] - now
if wait <= 0 then
  return 0
end
local missing = tonumber(ARGV[1])
for at = 1, #lanes, 2 do
  missing = missing - redis.call('LLEN', KEYS[3] .. lanes[at])
  if missing <= 0 then
    return 0
  end
end
return math.ceil(wait)
