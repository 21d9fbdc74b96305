#!lua flags=allow-oom
-- Take calls out of a handler's rate for the lanes of one partition, or give back those that were not made.
--
-- KEYS  1 the calls granted lately   2 turns
-- ARGV  1 calls   2 length of the stretch, ms   3 wanted (negative: give so many back)   4 partition
--       5 to give back: when they were granted, ms; else 0   6 turns that they cost
--       to take, then per partition that has lanes due: partition, teams at work in it, lanes due
-- Returns  {granted, wait, now, turns}
--          wait    ms until the next one can be had here, 0 if one can now
--          turns   what the granted calls cost, to give them back by
--
-- Scarce calls are shared out by start-time fair queueing: a partition's next call has a start tag, and a call moves it
-- on by one part in as many teams as are at work in it, so that a partition of twenty teams gets twice what one of ten
-- gets. The free calls belong to the lowest tags. A partition gets those of its own, and leaves others theirs; but to
-- one that was expected and has not asked for so long, no more.
-- turns has, per partition, "tag awaited": awaited is the time, ms, from which it is expected to ask (0: it just did);
-- and by the name of v the least tag of one that comes to have work.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local calls, stretch, wanted, own = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local PATIENCE = 3000 -- its bell may wait behind others' slices
--#include grants

local function turn(partition)
  local tag, awaited = string.match(redis.call('HGET', KEYS[2], partition) or '0 0', '^(%S+) (%d+)$')
  return tonumber(tag), tonumber(awaited)
end

local function put(partition, tag, awaited)
  redis.call('HSET', KEYS[2], partition, string.format('%.17g %.0f', tag, awaited))
end

if wanted < 0 then
  Grants.undo(KEYS[1], stretch, now, -wanted, tonumber(ARGV[5]))
  if redis.call('HEXISTS', KEYS[2], own) == 1 then
    local tag, awaited = turn(own)
    put(own, math.max(0, tag - ARGV[6]), awaited)
  end
  return {0, 0, now, '0'}
end

local free = calls - Grants.used(KEYS[1], stretch, now)
local virtual = turn('v')
local start, teams, others = math.max(virtual, (turn(own))), 1, {}
local lowest = nil
for at = 7, #ARGV, 3 do
  local partition, weight, due = ARGV[at], math.max(1, tonumber(ARGV[at + 1])), tonumber(ARGV[at + 2])
  if partition == own then
    teams = weight
  else
    local tag, awaited = turn(partition)
    tag = math.max(virtual, tag)
    if awaited == 0 then
      awaited = now
      put(partition, tag, awaited)
    end
    if now - awaited <= PATIENCE then
      others[#others + 1] = {tag, weight, due}
      lowest = math.min(lowest or tag, tag)
    end
  end
end

-- The free calls that there must be for the own one at this place to be among them.
local function needed(place)
  local tag, sum = start + place / teams, place + 1
  for _, other in ipairs(others) do
    if other[1] < tag then
      sum = sum + math.min(other[3], math.ceil((tag - other[1]) * other[2] - 1e-6))
    end
  end
  return sum
end

-- It grows with the place, so the number of own calls among the free ones is found by halving.
local granted, most = 0, math.max(0, math.min(wanted, free))
while granted < most do
  local middle = math.ceil((granted + most) / 2)
  if needed(middle - 1) <= free then
    granted = middle
  else
    most = middle - 1
  end
end

if granted > 0 then
  Grants.add(KEYS[1], stretch, now, granted)
end
local wait, missing = 0, needed(granted) - free
if missing > 0 then
  wait = Grants.wait(KEYS[1], stretch, now, calls, missing)
end
local finish = start + granted / teams
put(own, finish, granted < wanted and now + wait or 0)
put('v', math.max(virtual, math.min(lowest or finish, finish)), 0)
redis.call('PEXPIRE', KEYS[2], math.max(60000, 2 * stretch))
return {granted, wait, now, string.format('%.17g', granted / teams)}
