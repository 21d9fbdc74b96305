#!lua flags=allow-oom
-- Claim ready lanes of one handler: whoever holds a lane's token may run its first jobs.
--
-- KEYS  1 ready   2 claims   3 trouble   4 bell   5 state
--       6 prefix of the handler's lane keys; the lanes are found here, and share the hash tag of this key   7 blocked
--       8 turns   9 prefix of the teams' rates   10 parked
-- ARGV  1 lease ms   2 most lanes   3 most jobs   4 most jobs of a lane   5 most bytes of bodies
--       6 wide: 1 if a team may have many lanes, else 0   7 calls of each team   8 in a stretch of so many ms (0 calls: any)
-- Returns  {token, now, more, next, lane...}
--          more   1 if other lanes are ready now       next   when the next lane is due, ms ('' if none)
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
-- jobs are claimed, and how many still have to come one by one.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[4])
local token = redis.call('HINCRBY', KEYS[5], 'fence', 1)
local jobs_left, bytes_left = tonumber(ARGV[3]), tonumber(ARGV[5])
local result = {token, now, 0, ''}
local wide, calls, stretch = ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local blocks = redis.call('EXISTS', KEYS[7]) == 1
local TIMES, SIFTED, TAGGED = 1e12, 256, 2000
-- The calls that a rate granted lately: never more of them than it allows in any stretch of its length.
--
-- A list of "ms total", oldest first: how many were granted until then, over all. Its first entry, "0 total", stands for
-- those that have left the stretch. So what is used is a difference, and costs the same however many there were. Grants
-- within a hundredth of the stretch share one entry dated by the latest, so that the list is never longer than 102; a
-- call may count for that much longer, and never for less. A log, and not a refilled bucket, which lets twice the calls
-- through around its refill.
local Grants = {}

function Grants.parse(entry)
  local at, total = string.match(entry, '^(%d+) (%d+)$')
  return tonumber(at), tonumber(total)
end

function Grants.text(at, total)
  return string.format('%.0f %.0f', at, total)
end

-- Calls used in the stretch that ends now.
function Grants.used(key, stretch, now)
  local newest = redis.call('LINDEX', key, -1)
  if not newest then
    return 0
  end
  local _, gone = Grants.parse(redis.call('LINDEX', key, 0))
  local left = false
  while true do
    local oldest = redis.call('LINDEX', key, 1)
    local at, total = Grants.parse(oldest or newest)
    -- Milliseconds are rounded down: one more, or two calls might be that much nearer to each other than the stretch.
    if not oldest or at + stretch >= now then
      break
    end
    redis.call('LPOP', key)
    gone, left = math.max(gone, total), true
  end
  if left then
    redis.call('LSET', key, 0, Grants.text(0, gone))
  end
  local _, total = Grants.parse(redis.call('LINDEX', key, -1))
  return math.max(0, total - gone)
end

function Grants.add(key, stretch, now, count)
  local newest = redis.call('LINDEX', key, -1)
  if not newest then
    newest = '0 0'
    redis.call('RPUSH', key, newest)
  end
  local at, total = Grants.parse(newest)
  local slot = math.ceil(stretch / 100)
  local same = at > 0 and math.floor(at / slot) == math.floor(now / slot)
  local entry = Grants.text(now, total + count)
  if same then
    redis.call('LSET', key, -1, entry)
  else
    redis.call('RPUSH', key, entry)
  end
  redis.call('PEXPIRE', key, stretch + 2)
end

-- Take back calls that were granted at a time and not made. They count as the oldest of all: what was granted since
-- stays where it is, so the rest leaves the stretch later than it might, and never before its time.
function Grants.undo(key, stretch, now, count, granted)
  local newest = redis.call('LINDEX', key, -1)
  if not newest or granted + stretch < now then
    return
  end
  local _, gone = Grants.parse(redis.call('LINDEX', key, 0))
  local _, total = Grants.parse(newest)
  redis.call('LSET', key, 0, Grants.text(0, math.min(total, gone + count)))
end

-- Milliseconds until so many of the used calls have left the stretch.
function Grants.wait(key, stretch, now, calls, count)
  local entries = redis.call('LRANGE', key, 0, -1)
  local gone, used = 0, 0
  if #entries > 0 then
    local _, first = Grants.parse(entries[1])
    local _, last = Grants.parse(entries[#entries])
    gone, used = first, last - first
  end
  local later = 0
  if count > used then
    -- They are still to be granted themselves, at the soonest one stretch before they leave it.
    later = math.ceil((count - used) / calls) * (stretch + 1)
    count = (count - used - 1) % calls + 1
    count = math.min(count, used)
  end
  for at = 2, #entries do
    local granted, total = Grants.parse(entries[at])
    if total - gone >= count then
      return math.max(1, granted + stretch + 1 - now) + later
    end
  end
  return math.max(1, later)
end


local function team_of(lane)
  return string.match(lane, '^[^:]*')
end

-- Give tags to lanes that are due by their time.
local function tag()
  local fresh = redis.call('ZRANGEBYSCORE', KEYS[1], TIMES, now, 'LIMIT', 0, TAGGED)
  local served, nexts, words = tonumber(redis.call('ZSCORE', KEYS[8], ':turn') or 0), {}, {}
  for _, lane in ipairs(fresh) do
    local team = team_of(lane)
    local start = nexts[team] or math.max(served, tonumber(redis.call('ZSCORE', KEYS[8], team) or 0))
    nexts[team] = start + 1
    words[#words + 1] = start
    words[#words + 1] = lane
  end
  for from = 1, #words, 1000 do
    redis.call('ZADD', KEYS[1], unpack(words, from, math.min(from + 999, #words)))
  end
  for team, start in pairs(nexts) do
    redis.call('ZADD', KEYS[8], start, team)
  end
end

-- The calls that a lane's team has left, any number without a rate.
local function calls_left(lane)
  if calls == 0 then
    return math.huge
  end
  return calls - Grants.used(KEYS[9] .. team_of(lane), stretch, now)
end

-- A lane of a team that has none left waits for one.
local function park(lane)
  local team = team_of(lane)
  local due = now + Grants.wait(KEYS[9] .. team, stretch, now, calls, 1)
  if wide then
    local last = tonumber(redis.call('ZSCORE', KEYS[10], team) or 0)
    due = math.max(due, last + stretch / calls)
    redis.call('ZADD', KEYS[10], due, team)
    redis.call('PEXPIREAT', KEYS[10], math.ceil(redis.call('ZRANGE', KEYS[10], -1, -1, 'WITHSCORES')[2]) + 1)
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
      if blocks and redis.call('HEXISTS', KEYS[7], lane) == 1 then
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
  redis.call('DEL', KEYS[8])
end
if calls > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', now)
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
  local jobs = most > 0 and redis.call('LRANGE', KEYS[6] .. lane, 0, most - 1) or {}
  local count = 0
  local found = {lane, 0, crashed + (careful > 0 and 2 or 0), claim and redis.call('HGET', KEYS[3], lane) or '', 0}
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
    if calls > 0 then
      Grants.add(KEYS[9] .. team_of(lane), stretch, now, count)
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
    redis.call('DEL', KEYS[8]) -- nobody waits for a turn
  else
    served = served and served < TIMES and served or 0
    redis.call('ZADD', KEYS[8], 'GT', served, ':turn')
    redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', '(' .. string.format('%.0f', served))
    redis.call('ZADD', KEYS[8], now, ':at')
  end
end
if first[2] and first[2] ~= 'inf' then
  result[3] = tonumber(first[2]) <= now and 1 or 0
  result[4] = first[2]
end
return result
