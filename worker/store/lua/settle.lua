#!lua flags=allow-oom
-- Write what became of claimed jobs, for any number of lanes.
--
-- KEYS  1 ready   2 claims   3 trouble   4 refs   5 inbox   6 ledger   7 dead
--       8 prefix of the handler's lane keys (same hash tag)
-- ARGV  1 lease ms   2 handler
--       then per lane, ten words:
--         token, lane, done, discarded, action, delay ms, attempts, trouble, error class, error text
--       done + discarded jobs leave the head of the lane; then the action is applied to what is left:
--         hold     the caller goes on with the rest of its jobs
--         release  the lane is due again at once, if it has jobs
--         retry    its first job failed; the lane is due after delay; attempts and trouble are remembered
--         return   as release, but its first job was tried before: attempts and trouble are remembered
--         bury     its first job is given up: to the dead letters; the lane is due again at once
-- Returns  one word per lane:   1 OK, it has jobs   0 DONE, it is empty now   -1 LEASE_LOST, nothing was written for it
--
-- A body leaves the inbox with its last job. All of a lane's outcome is written here or none of it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local handler = ARGV[2]
local done, discarded, buried, retried = 0, 0, 0, 0
local freed = {}

local function finish(job)
  local entry, shared = string.match(job, '^(%S+) (%S+)')
  if shared == '1' then
    if redis.call('HINCRBY', KEYS[4], entry, -1) > 0 then
      return
    end
    redis.call('HDEL', KEYS[4], entry)
  end
  freed[#freed + 1] = entry
end

local function bury(lane, job, at)
  local entry = string.match(job, '^%S+')
  local stored = redis.call('XRANGE', KEYS[5], entry, entry)[1]
  local fields = stored and stored[2] or {}
  redis.call('XADD', KEYS[7], '*', 'handler', handler, 'lane', lane, 'job', job, 'attempts', ARGV[at + 5],
    'trouble', ARGV[at + 6], 'error', ARGV[at + 7], 'text', ARGV[at + 8], unpack(fields))
end

local result = {}
for word = 3, #ARGV, 10 do
  local token, at = ARGV[word], word + 1
  local lane, action = ARGV[at], ARGV[at + 3]
  local claim = redis.call('HGET', KEYS[2], lane)
  local holder, _, count, careful = string.match(claim or '', '^(%d+) (%d+) (%d+) (%d+)')
  if holder ~= token then
    result[#result + 1] = -1
  else
    local key = KEYS[8] .. lane
    local ended = ARGV[at + 1] + ARGV[at + 2]
    if ended > 0 then
      for _, job in ipairs(redis.call('LPOP', key, ended) or {}) do
        finish(job)
      end
      done = done + ARGV[at + 1]
      discarded = discarded + ARGV[at + 2]
      redis.call('HDEL', KEYS[3], lane)
    end
    if action == 'bury' then
      local job = redis.call('LPOP', key)
      if job then
        bury(lane, job, at)
        finish(job)
        buried = buried + 1
      end
      redis.call('HDEL', KEYS[3], lane)
    end
    local left = redis.call('EXISTS', key)
    careful = math.max(0, careful - ended - (action == 'bury' and 1 or 0))
    if action == 'hold' then
      local claimed = count - ended
      redis.call('HSET', KEYS[2], lane, token .. ' ' .. (claimed == 1 and 1 or 0) .. ' ' .. claimed .. ' ' .. careful)
      redis.call('ZADD', KEYS[1], now + ARGV[1], lane)
    elseif left == 0 then
      redis.call('ZREM', KEYS[1], lane)
      redis.call('HDEL', KEYS[2], lane)
    elseif action == 'retry' or (action == 'return' and ARGV[at + 5] ~= '0') then
      redis.call('HSET', KEYS[2], lane, '0 ' .. ARGV[at + 5] .. ' 0 ' .. careful)
      redis.call('HSET', KEYS[3], lane, ARGV[at + 6])
      redis.call('ZADD', KEYS[1], now + ARGV[at + 4], lane)
      retried = retried + (action == 'retry' and 1 or 0)
    else
      if careful > 0 then
        redis.call('HSET', KEYS[2], lane, '0 0 0 ' .. careful)
      else
        redis.call('HDEL', KEYS[2], lane)
      end
      redis.call('ZADD', KEYS[1], now, lane)
    end
    result[#result + 1] = left
  end
end

for from = 1, #freed, 1000 do
  redis.call('XDEL', KEYS[5], unpack(freed, from, math.min(from + 999, #freed)))
end
local counts = {done = done, discarded = discarded, dead = buried, retried = retried}
for name, count in pairs(counts) do
  if count > 0 then
    redis.call('HINCRBY', KEYS[6], name .. ':' .. handler, count)
  end
end
if #freed > 0 then
  redis.call('HINCRBY', KEYS[6], 'stored', -#freed)
end
return result
