#!lua flags=allow-oom
-- Claim ready lanes of one handler: whoever holds a lane's token may run its first jobs.
--
-- KEYS  1 ready   2 claims   3 trouble   4 bell
--       5 prefix of the handler's lane keys; the lanes are found here, and share the hash tag of this key   6 blocked
--       7 turns   8 prefix of the teams' rates   9 parked   10 inbox
-- ARGV  1 lease ms   2 most lanes   3 most jobs   4 most jobs of a lane   5 most bytes of bodies
--       6 wide: 1 if a team may have many lanes, else 0   7 calls of each team   8 in a stretch of so many ms (0 calls: any)
--       9 token, one that nobody ever had (store/tokens.py)   10 bodies come along if there are no more jobs than this
-- Returns  {now, more, next, bodies, lane...}
--          more   1 if other lanes are ready now       next   when the next lane is due, ms ('' if none)
--          bodies {entry, body, ...}, '' for one that is lost; none if there are more jobs than asked for
--          lane   {name, attempt, crashed (1) + careful (2), trouble, jobs in the lane, job, job, ...}
--
-- A lane that is blocked is never due (+inf), but for one that got its first job, or whose owner died, since: it is put
-- there when it is met.
--
-- Teams take turns. Where a team has one lane, the order of due times is that: a lane that was let go is the last of all
-- that are due. Where it may have thousands, those that are due get a start tag instead of their time, by start-time
-- fair queueing: a team's next lane is one turn behind its last, and behind the turn that is being served. Tags are below
-- any time, so a lane that has one is due, and it gets it here, in the order of due times, many lanes at once: nobody who
-- writes a time to ready has to know of it. turns has a team -> the tag of its next lane, :turn -> the one being served,
-- :at -> when it was last looked at, ms.
--
-- Of a team that has used up its rate, a lane that is due waits for the next call that will be free, as time of ready;
-- and each further lane one part in so many of the stretch longer (parked: team -> when the last of them is due), so
-- that they come when they can be used, and are not met again and again. A call is used when its lane is claimed.
--
-- So much is done at once, and no more: SIFTED lanes put aside, TAGGED tags given.
--
-- An attempt is counted here, not when the call ends: a job that kills its process runs out of attempts too. That needs
-- a job to be claimed alone. So many are claimed together only from a lane without trouble, and counted as no attempt;
-- if their process dies (crashed: the lease ran out), as many jobs as were claimed come one by one, so that the next
-- crash is known to be its first job's, and repeats no other. Such a lane is careful, and claimed without others. The
-- crash of a claim of many lanes costs no attempt: most of them were only waiting behind the one that was to blame.
-- claims holds "token attempts count careful": who has the lane (0: nobody), how often its first job was tried, how many
-- jobs are claimed, and how many still have to come one by one; and a fifth number, from its owner's first write on: how
-- many it made (settle.lua).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[4])
local token = ARGV[9]
local jobs_left, bytes_left = tonumber(ARGV[3]), tonumber(ARGV[5])
local bodies, entries = {}, {}
local result = {now, 0, '', bodies}
local wide, calls, stretch = ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local blocks = redis.call('EXISTS', KEYS[6]) == 1
local TIMES, SIFTED, TAGGED = 1e12, 256, 2000
--#include grants

local function team_of(lane)
  return string.match(lane, '^[^:]*')
end

-- Give tags to lanes that are due by their time.
local function tag()
  local fresh = redis.call('ZRANGEBYSCORE', KEYS[1], TIMES, now, 'LIMIT', 0, TAGGED)
  local served, nexts, words = tonumber(redis.call('ZSCORE', KEYS[7], ':turn') or 0), {}, {}
  for _, lane in ipairs(fresh) do
    local team = team_of(lane)
    local start = nexts[team] or math.max(served, tonumber(redis.call('ZSCORE', KEYS[7], team) or 0))
    nexts[team] = start + 1
    words[#words + 1] = start
    words[#words + 1] = lane
  end
  for from = 1, #words, 1000 do
    redis.call('ZADD', KEYS[1], unpack(words, from, math.min(from + 999, #words)))
  end
  for team, start in pairs(nexts) do
    redis.call('ZADD', KEYS[7], start, team)
  end
end

-- The calls that a lane's team has left, any number without a rate.
local function calls_left(lane)
  if calls == 0 then
    return math.huge
  end
  return calls - Grants.used(KEYS[8] .. team_of(lane), stretch, now)
end

-- A lane of a team that has none left waits for one.
local function park(lane)
  local team = team_of(lane)
  local due = now + Grants.wait(KEYS[8] .. team, stretch, now, calls, 1)
  if wide then
    local last = tonumber(redis.call('ZSCORE', KEYS[9], team) or 0)
    due = math.max(due, last + stretch / calls)
    redis.call('ZADD', KEYS[9], due, team)
    redis.call('PEXPIREAT', KEYS[9], math.ceil(redis.call('ZRANGE', KEYS[9], -1, -1, 'WITHSCORES')[2]) + 1)
  end
  redis.call('ZADD', KEYS[1], math.ceil(due), lane)
end

-- Put aside what can't be called now; the others among the first lanes that are due, in order.
local function sift()
  local wanted = tonumber(ARGV[2])
  if not blocks and calls == 0 then
    return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, wanted)
  end
  local lanes, left, met = {}, {}, 0
  while met < math.max(SIFTED, wanted) do
    local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', #lanes, math.max(wanted, 64))
    for _, lane in ipairs(page) do
      local team = team_of(lane)
      if #lanes == wanted then
        return lanes
      end
      left[team] = left[team] or calls_left(lane)
      if blocks and redis.call('HEXISTS', KEYS[6], lane) == 1 then
        redis.call('ZADD', KEYS[1], '+inf', lane)
      elseif left[team] <= 0 then
        park(lane)
      else
        left[team] = left[team] - 1
        lanes[#lanes + 1] = lane
      end
    end
    met = met + #page
    if #page == 0 then
      break
    end
  end
  return lanes
end

if wide then
  tag()
else
  redis.call('DEL', KEYS[7])
end
if calls > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[9], '-inf', now)
end
local served = nil
for _, lane in ipairs(sift()) do
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
  local most = math.min(tonumber(ARGV[4]), jobs_left, calls_left(lane))
  if claim then
    most = 1
  end
  if careful > 0 and #result > 4 then
    most = 0
  end
  local jobs = most > 0 and redis.call('LRANGE', KEYS[5] .. lane, 0, most - 1) or {}
  local whole = #jobs < most -- the lane has no others
  local count = 0
  local found = {lane, 0, crashed + (careful > 0 and 2 or 0), claim and redis.call('HGET', KEYS[3], lane) or '', 0}
  for _, job in ipairs(jobs) do
    if count > 0 and bytes_left <= 0 then
      break
    end
    count = count + 1
    local entry, size = string.match(job, '^(%S+) %S+ (%d+)')
    bytes_left = bytes_left - size
    entries[#entries + 1] = entry
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
    found[2], found[5] = attempts, whole and #jobs or redis.call('LLEN', KEYS[5] .. lane)
    if calls > 0 then
      Grants.add(KEYS[8] .. team_of(lane), stretch, now, count)
    end
    if wide then
      served = tonumber(redis.call('ZSCORE', KEYS[1], lane))
    end
    jobs_left = careful > 0 and 0 or jobs_left - count
    redis.call('HSET', KEYS[2], lane, token .. ' ' .. attempts .. ' ' .. count .. ' ' .. careful)
    redis.call('ZADD', KEYS[1], now + ARGV[1], lane)
    result[#result + 1] = found
  end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if wide then
  if not first[2] or tonumber(first[2]) >= TIMES then
    redis.call('DEL', KEYS[7]) -- nobody waits for a turn
  else
    served = served and served < TIMES and served or 0
    redis.call('ZADD', KEYS[7], 'GT', served, ':turn')
    redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', '(' .. string.format('%.0f', served))
    redis.call('ZADD', KEYS[7], now, ':at')
  end
end
if first[2] and first[2] ~= 'inf' then
  result[2] = tonumber(first[2]) <= now and 1 or 0
  result[3] = first[2]
end
if #entries <= tonumber(ARGV[10]) then
  for _, entry in ipairs(entries) do
    local found, body = redis.call('XRANGE', KEYS[10], entry, entry)[1], ''
    for at = 1, found and #found[2] or 0, 2 do
      body = found[2][at] == 'b' and found[2][at + 1] or body
    end
    bodies[#bodies + 1] = entry
    bodies[#bodies + 1] = body
  end
end
return result
