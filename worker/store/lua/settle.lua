#!lua flags=allow-oom
-- Write what became of claimed jobs, for any number of lanes.
--
-- KEYS  1 ready   2 claims   3 trouble   4 refs   5 inbox   6 ledger   7 dead   8 blocked   9 ends
--       10 prefix of the handler's lane keys (same hash tag)   11 missed
-- ARGV  1 lease ms   2 handler
--       then per lane: token, lane, writes, ended, action, delay ms, attempts, trouble, error class, number of dead letters,
--       and for each of those: attempts, trouble, error class, error text
--       ended has a letter for each job from the head of the lane:
--         d  done   x  discarded   D  given up: to the dead letters   .  it stays, before all that has no letter
--         +  stays, with one more failed call in its text   o  stays, late and stale: newer ones were done   O  both
--         -  stays, and its call failed, which is not counted: its text says that it was called, no more
--       then the action is applied to what is left:
--         hold     the caller goes on with the rest of its jobs
--         release  the lane is due again after delay (none: at once), if it has jobs
--         retry    its first job failed; the lane is due after delay; attempts and trouble are remembered
--         return   as release, but its first job was tried before: attempts and trouble are remembered
--         apart    its jobs were called with others, and one of them may be to blame: as many as were claimed come one
--                  by one, as after a crash (claim.lua); attempts and trouble are those of its first job
--         block    its first job ran out of attempts; nothing of the lane is due until a person says so
-- Returns  one word per lane:   1 OK, it has jobs   0 DONE, it is empty now   -1 LEASE_LOST, nothing was written for it
--
-- writes is how often its owner has written this lane since it claimed it ('': it does not know). A server that took the
-- place of another may lack the last of those writes, and the jobs at the lane's head are others then than its owner
-- thinks: it has lost the lane.
--
-- A body leaves the inbox with its last user. All of a lane's outcome is written here or none of it.
--#include users
--#include missed
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local handler = ARGV[2]
local users, missed = users_of(KEYS[4], KEYS[5], KEYS[6]), missed_of(KEYS[11])
local counts = {done = 0, discarded = 0, dead = 0, retried = 0}
local ends = {}
local any_blocked, any_trouble = redis.call('EXISTS', KEYS[8]) == 1, redis.call('EXISTS', KEYS[3]) == 1

local WORDS = {d = 'done', x = 'discarded', D = 'dead'}

-- Jobs that ended and whose bodies others may need: entry, letter, attempts, size, four words each.
local ended_jobs, entries = {}, {}

local function finish(lane, job, letter, attempts)
  local entry, shared, size = string.match(job, '^(%S+) (%S+) (%S+)')
  local word = WORDS[letter]
  counts[word] = counts[word] + 1
  missed.note(lane, job, letter)
  if letter ~= 'D' and shared == '0' then
    users.freed[#users.freed + 1] = entry
  else
    entries[#entries + 1] = entry
    local at = #ended_jobs
    ended_jobs[at + 1], ended_jobs[at + 2], ended_jobs[at + 3], ended_jobs[at + 4] = entry, letter, attempts, size
  end
end

-- A job that stays, as it goes back to its lane (core/jobs.py).
local function kept(job, letter)
  if letter == '.' then
    return job
  end
  local head, kind, marks, tried, rest = string.match(job, '^(%S+ %S+ %S+ %S+ )(%a)(%a*)(%d*)(.*)$')
  if letter == 'o' or letter == 'O' then
    marks = (kind == 'e' and '' or 's') .. (string.match(marks, 'k') or '') .. 'l'
  end
  if letter ~= 'o' then
    tried = (tonumber(tried) or 0) + (letter == '-' and 0 or 1)
  end
  return head .. kind .. marks .. tried .. rest
end

local function due(lane, at)
  redis.call('ZADD', KEYS[1], any_blocked and redis.call('HEXISTS', KEYS[8], lane) == 1 and '+inf' or at, lane)
end

local result = {}
local at = 3
while at <= #ARGV do
  local token, lane, expected, ended, action = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local delay, attempts, trouble, error = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local dead = at + 10
  at = dead + 4 * ARGV[at + 9]
  local claim = redis.call('HGET', KEYS[2], lane)
  local holder, tried, count, careful, writes = string.match(claim or '', '^(%d+) (%d+) (%d+) (%d+) ?(%d*)$')
  writes = tonumber(writes) or 0
  if holder ~= token or (expected ~= '' and writes ~= tonumber(expected)) then
    result[#result + 1] = -1
  else
    local key = KEYS[10] .. lane
    local stays = {}
    if #ended > 0 then
      for index, job in ipairs(redis.call('LPOP', key, #ended) or {}) do
        local letter = string.sub(ended, index, index)
        if letter == 'd' or letter == 'x' or letter == 'D' then
          local took = math.max(1, index == 1 and tonumber(tried) or 1)
          if letter == 'D' then
            took = ARGV[dead]
            redis.call('XADD', KEYS[7], '*', 'handler', handler, 'lane', lane, 'job', job, 'attempts', took,
              'trouble', ARGV[dead + 1], 'error', ARGV[dead + 2], 'text', ARGV[dead + 3])
            dead = dead + 4
          end
          finish(lane, job, letter, took)
        else
          stays[#stays + 1] = kept(job, letter)
        end
      end
      for index = #stays, 1, -1 do
        redis.call('LPUSH', key, stays[index])
      end
      if any_trouble then
        redis.call('HDEL', KEYS[3], lane)
      end
    end
    local gone = #ended - #stays
    local left = redis.call('EXISTS', key)
    careful = math.max(0, careful - gone)
    if action == 'hold' then
      local claimed = count - gone
      local numbers = {token, claimed == 1 and 1 or 0, claimed, careful, writes + 1}
      redis.call('HSET', KEYS[2], lane, table.concat(numbers, ' '))
      redis.call('ZADD', KEYS[1], now + ARGV[1], lane)
    elseif left == 0 then
      redis.call('ZREM', KEYS[1], lane)
      redis.call('HDEL', KEYS[2], lane)
    elseif action == 'retry' or action == 'block' or action == 'apart' or (action == 'return' and (attempts ~= '0' or trouble ~= '[]')) then
      if action == 'apart' then
        careful = math.max(careful, count - gone)
      end
      redis.call('HSET', KEYS[2], lane, '0 ' .. attempts .. ' 0 ' .. careful)
      redis.call('HSET', KEYS[3], lane, trouble)
      if action == 'block' then
        -- NX: a lane that a person paused meanwhile stays paused; resumed, its first job is tried once more.
        redis.call('HSETNX', KEYS[8], lane, cjson.encode({why = 'exhausted', at = now, by = handler, error = error}))
        redis.call('ZADD', KEYS[1], '+inf', lane)
      else
        due(lane, now + delay)
      end
      counts.retried = counts.retried + (action == 'retry' and 1 or 0)
    else
      if careful > 0 then
        redis.call('HSET', KEYS[2], lane, '0 0 0 ' .. careful)
      else
        redis.call('HDEL', KEYS[2], lane)
      end
      due(lane, now + delay)
    end
    result[#result + 1] = left
  end
end

users.expect(entries)
for at = 1, #ended_jobs, 4 do
  local entry, letter = ended_jobs[at], ended_jobs[at + 1]
  if users.move(entry, 1, letter == 'D' and DEAD or 0, nil, ended_jobs[at + 3]) then
    ends[#ends + 1] = entry .. ' ' .. handler
    ends[#ends + 1] = string.format('%s %.0f %s', WORDS[letter], now, ended_jobs[at + 2])
  end
end
for name, count in pairs(counts) do
  if count > 0 then
    redis.call('HINCRBY', KEYS[6], name .. ':' .. handler, count)
  end
end
for from = 1, #ends, 2000 do
  redis.call('HSET', KEYS[9], unpack(ends, from, math.min(from + 1999, #ends)))
end
users.finish()
return result
