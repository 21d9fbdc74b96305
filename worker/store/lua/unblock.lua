#!lua flags=allow-oom
-- Let lanes of a handler on: those that a person paused, or those whose first job ran out of attempts.
--
-- KEYS  1 ready   2 claims   3 trouble   4 blocked   5 refs   6 inbox   7 ledger   8 dead   9 ends
--       10 prefix of the handler's lane keys (same hash tag)   11 missed
-- ARGV  1 handler   2 why they are: "paused" or "exhausted"   3 "1" to give up the first job of each   then the lanes
-- Returns  a word per lane
--          freed     it is due now, if it has jobs; the first job of one that was exhausted has all its attempts again
--          buried    so, and its first job is a dead letter
--          not       it is not blocked for that reason (any more): nothing was written
--          claimed   somebody has it now, so its first job can't be given up: nothing was written
--#include users
--#include missed
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local users = users_of(KEYS[5], KEYS[6], KEYS[7])
local handler, buried, result = ARGV[1], 0, {}
local missed = missed_of(KEYS[11])

-- The class and the text of the last of the failed attempts, as store/lanes.py writes them: number, time, class, text.
local function last_error(trouble)
  local attempts = trouble ~= '' and cjson.decode(trouble) or {}
  local last = attempts[#attempts]
  return last and last[3] or '', last and last[4] or ''
end

local function bury(lane, job, attempts, facts)
  local trouble = redis.call('HGET', KEYS[3], lane) or ''
  local class, text = last_error(trouble)
  redis.call('XADD', KEYS[8], '*', 'handler', handler, 'lane', lane, 'job', job, 'attempts', attempts,
    'trouble', trouble ~= '' and trouble or '[]', 'error', facts.error or class, 'text', text)
  local entry, size = string.match(job, '^(%S+) %S+ (%S+)')
  if users.move(entry, 1, DEAD, nil, size) then
    redis.call('HSET', KEYS[9], entry .. ' ' .. handler, string.format('dead %.0f %s', now, attempts))
  end
  missed.note(lane, job, 'D')
  buried = buried + 1
end

for at = 4, #ARGV do
  local lane = ARGV[at]
  local text = redis.call('HGET', KEYS[4], lane)
  local facts = text and cjson.decode(text) or {}
  local holder, attempts, careful = '0', '0', '0'
  local claim = redis.call('HGET', KEYS[2], lane)
  if claim then
    holder, attempts, careful = string.match(claim, '^(%d+) (%d+) %d+ (%d+)')
  end
  if facts.why ~= ARGV[2] then
    result[#result + 1] = 'not'
  elseif ARGV[3] == '1' and holder ~= '0' then
    result[#result + 1] = 'claimed'
  else
    redis.call('HDEL', KEYS[4], lane)
    local job = ARGV[3] == '1' and redis.call('LPOP', KEYS[10] .. lane)
    if job then
      bury(lane, job, attempts, facts)
      careful = math.max(0, careful - 1)
    elseif holder == '0' and facts.why == 'exhausted' then
      -- Those of its attempts that a batch counted in its text begin anew, too: 0 is "it was called" (core/jobs.py).
      local first = redis.call('LINDEX', KEYS[10] .. lane, 0)
      local place, marks, rest = string.match(first or '', '^(%S+ %S+ %S+ %S+ %a+)(%d+)( .*)$')
      if marks then
        redis.call('LSET', KEYS[10] .. lane, 0, place .. '0' .. rest)
      end
      careful = math.max(1, careful) -- it was tried, and may have been applied: conflation has to leave it as it is
    end
    if facts.why == 'exhausted' and holder == '0' then
      redis.call('HDEL', KEYS[3], lane)
      if tonumber(careful) > 0 then
        redis.call('HSET', KEYS[2], lane, '0 0 0 ' .. careful)
      else
        redis.call('HDEL', KEYS[2], lane)
      end
    end
    if redis.call('EXISTS', KEYS[10] .. lane) == 0 and holder == '0' then
      redis.call('ZREM', KEYS[1], lane)
      redis.call('HDEL', KEYS[2], lane)
    elseif redis.call('ZSCORE', KEYS[1], lane) == 'inf' then
      redis.call('ZADD', KEYS[1], now, lane)
    end
    result[#result + 1] = job and 'buried' or 'freed'
  end
end
if buried > 0 then
  redis.call('HINCRBY', KEYS[7], 'dead:' .. handler, buried)
end
users.finish()
return result
