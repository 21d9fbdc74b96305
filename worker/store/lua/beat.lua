#!lua flags=allow-oom
-- Write down how a worker is getting on, or that it has ended. On a full server too: it is then that one asks.
--
-- KEYS  1 beats   2 last
-- ARGV  1 worker   2 its beat, JSON, or "": it has ended   3 ms that a worker without beats is remembered
--       4 workers that are remembered
-- Returns  the server's ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function forget(gone)
  for _, worker in ipairs(gone) do
    redis.call('HDEL', KEYS[1], worker)
    redis.call('ZREM', KEYS[2], worker)
  end
end
if ARGV[2] == '' then
  forget({ARGV[1]})
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
forget(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3], 'LIMIT', 0, 100))
local over = redis.call('ZCARD', KEYS[2]) - ARGV[4]
if over > 0 then
  forget(redis.call('ZRANGE', KEYS[2], 0, math.min(over, 100) - 1))
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return now
