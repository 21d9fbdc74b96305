#!lua flags=allow-oom
-- Claim ready lanes of one handler: whoever holds a lane's token may run its first jobs.
--
-- KEYS  1 ready   2 claims   3 trouble   4 bell   5 state
--       6 prefix of the handler's lane keys; the lanes are found here, and share the hash tag of this key   7 blocked
-- ARGV  1 lease ms   2 most lanes   3 most jobs   4 most jobs of a lane   5 most bytes of bodies
-- Returns  {token, now, more, next, lane...}
--          more   1 if other lanes are ready now       next   when the next lane is due, ms ('' if none)
--          lane   {name, attempt, crashed, trouble, jobs in the lane, job, job, ...}
--
-- A lane that is blocked is never due (+inf), but for one that got its first job, or whose owner died, since: it is put
-- there when it is met. So many are met at once and no more.
--
-- An attempt is counted here, not when the call ends: a job that kills its process runs out of attempts too. That needs
-- a job to be claimed alone. So many are claimed together only from a lane without trouble, and counted as no attempt;
-- if their process dies (crashed: the lease ran out), as many jobs as were claimed come one by one, so that the next
-- crash is known to be its first job's, and repeats no other. Such a lane is careful, and claimed without others. The
-- crash of a claim of many lanes costs no attempt: most of them were only waiting behind the one that was to blame.
-- claims holds "token attempts count careful": who has the lane (0: nobody), how often its first job was tried, how many
-- jobs are claimed, and how many still have to come one by one.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[4])
local token = redis.call('HINCRBY', KEYS[5], 'fence', 1)
local jobs_left, bytes_left = tonumber(ARGV[3]), tonumber(ARGV[5])
local result = {token, now, 0, ''}

-- The lanes to claim, in the order in which they are due.
local PAGES = 4
local function due()
  local wanted = tonumber(ARGV[2])
  if redis.call('EXISTS', KEYS[7]) == 0 then
    return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, wanted)
  end
  local lanes, from = {}, 0
  for _ = 1, PAGES do
    local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', from, math.max(wanted, 64))
    for _, lane in ipairs(page) do
      if #lanes == wanted then
        return lanes
      elseif redis.call('HEXISTS', KEYS[7], lane) == 1 then
        redis.call('ZADD', KEYS[1], '+inf', lane)
      else
        lanes[#lanes + 1] = lane
      end
    end
    from = #lanes
  end
  return lanes
end

for _, lane in ipairs(due()) do
  if jobs_left <= 0 or bytes_left <= 0 then
    break
  end
  local attempts, careful, crashed = 0, 0, 0
  local claim = redis.call('HGET', KEYS[2], lane)
  if claim then
    local holder, tried, claimed, one_by_one = string.match(claim, '^(%d+) (%d+) (%d+) (%d+)')
    attempts, careful = tonumber(tried), tonumber(one_by_one)
    if holder ~= '0' then
      if careful == 0 and claimed == '1' then
        attempts = attempts - 1
      end
      crashed, careful = 1, math.max(careful, tonumber(claimed))
    end
  end
  local most = math.min(tonumber(ARGV[4]), jobs_left)
  if claim then
    most = 1
  end
  if careful > 0 and #result > 4 then
    most = 0
  end
  local jobs = most > 0 and redis.call('LRANGE', KEYS[6] .. lane, 0, most - 1) or {}
  local count = 0
  local found = {lane, 0, crashed, claim and redis.call('HGET', KEYS[3], lane) or '', 0}
  for _, job in ipairs(jobs) do
    if count > 0 and bytes_left <= 0 then
      break
    end
    count = count + 1
    bytes_left = bytes_left - string.match(job, '^%S+ %S+ (%d+)')
    found[#found + 1] = job
  end
  if count == 0 and most > 0 then
    redis.call('ZREM', KEYS[1], lane)
    redis.call('HDEL', KEYS[2], lane)
    redis.call('HDEL', KEYS[3], lane)
  elseif count > 0 then
    if count == 1 then
      attempts = attempts + 1
    end
    found[2], found[5] = attempts, redis.call('LLEN', KEYS[6] .. lane)
    jobs_left = careful > 0 and 0 or jobs_left - count
    redis.call('HSET', KEYS[2], lane, token .. ' ' .. attempts .. ' ' .. count .. ' ' .. careful)
    redis.call('ZADD', KEYS[1], now + ARGV[1], lane)
    result[#result + 1] = found
  end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] and first[2] ~= 'inf' then
  result[3] = tonumber(first[2]) <= now and 1 or 0
  result[4] = first[2]
end
return result
