#!lua flags=allow-oom
-- Put fewer jobs in the place of a claimed lane's first ones: the others were absorbed by them, or cancelled out.
--
-- KEYS  1 ready   2 claims   3 refs   4 inbox   5 ledger   6 ends   7 the lane's list
-- ARGV  1 lease ms   2 handler   3 token   4 lane   5 jobs that were read, from the head   6 the last of those
--       7 most jobs to claim of what is left   8 writes (settle.lua)
--       then for each job that is left, in order: its place among those read (from 1), and its text ('': as it was)
-- Returns  {left, claimed, attempt}   OK: jobs in the lane now; how many of them are claimed; ClaimedLane's attempt
--          {-1}                       LEASE_LOST: nothing was written
--          {-2}                       CHANGED: the lane does not begin with what was read; nothing was written
--
-- A lane whose owner has a token changes at its head by that owner alone; the sequencer appends at its end. A lane
-- that is empty now is let go. The lease begins anew. A body leaves the inbox with its last user.
--#include users
local lane, key = ARGV[4], KEYS[7]
local claim = redis.call('HGET', KEYS[2], lane) or ''
local holder, tried, claimed, careful, writes = string.match(claim, '^(%d+) (%d+) (%d+) (%d+) ?(%d*)$')
writes = tonumber(writes) or 0
if holder ~= ARGV[3] or writes ~= tonumber(ARGV[8]) then
  return {-1}
end
local read = tonumber(ARGV[5])
if redis.call('LINDEX', key, read - 1) ~= ARGV[6] then
  return {-2}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local jobs = redis.call('LPOP', key, read)
local stays, backwards = {}, {}
for at = #ARGV - 1, 9, -2 do
  local place, text = tonumber(ARGV[at]), ARGV[at + 1]
  stays[place] = true
  backwards[#backwards + 1] = text == '' and jobs[place] or text
end
for from = 1, #backwards, 2000 do
  redis.call('LPUSH', key, unpack(backwards, from, math.min(from + 1999, #backwards)))
end

local users = users_of(KEYS[3], KEYS[4], KEYS[5])
local ends, shared_ones, sizes = {}, {}, {}
for place, job in ipairs(jobs) do
  if not stays[place] then
    local entry, shared, size = string.match(job, '^(%S+) (%S+) (%S+)')
    if shared == '0' then
      users.freed[#users.freed + 1] = entry
    else
      shared_ones[#shared_ones + 1] = entry
      sizes[#sizes + 1] = size
    end
  end
end
users.expect(shared_ones)
for index, entry in ipairs(shared_ones) do
  if users.move(entry, 1, 0, nil, sizes[index]) then
    ends[#ends + 1] = entry .. ' ' .. ARGV[2]
    ends[#ends + 1] = string.format('conflated %.0f 0', now)
  end
end
for from = 1, #ends, 2000 do
  redis.call('HSET', KEYS[6], unpack(ends, from, math.min(from + 1999, #ends)))
end
if #jobs > #backwards then
  redis.call('HINCRBY', KEYS[5], 'conflated:' .. ARGV[2], #jobs - #backwards)
end
users.finish()

local left = redis.call('LLEN', key)
if left == 0 then
  redis.call('ZREM', KEYS[1], lane)
  redis.call('HDEL', KEYS[2], lane)
  return {0, 0, 0}
end
if ARGV[7] ~= '1' then
  -- As claim.lua counts: an attempt where one job is claimed. Where one was asked for, it has counted already.
  claimed = math.max(1, math.min(ARGV[7], #backwards))
  tried = claimed == 1 and 1 or 0
end
redis.call('HSET', KEYS[2], lane, table.concat({holder, tried, claimed, careful, writes + 1}, ' '))
redis.call('ZADD', KEYS[1], now + ARGV[1], lane)
return {left, tonumber(claimed), tonumber(tried)}
