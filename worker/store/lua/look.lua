#!lua flags=no-writes
-- How a partition is getting on: what waits for how long, and what is being worked on. Costs the same however much waits.
--
-- KEYS  1 inbox   2 state   3 gaps   4 lease   5 prefix of the held keys
--       then per handler: ready, claims, prefix of its lane keys (the same hash tag), blocked, turns
-- ARGV  1 most lanes, claims and held events to look at, each
-- Returns  {now, oldest unread, sequencing, oldest held, handler...}   times in ms, '' where there is none
--          sequencing  1 while a sequencer has the lease
--          handler     {lanes, due, claimed, due since, oldest job, stopped, blocked}
--          stopped     lanes with jobs that are never due: blocked   blocked: with those that have no job now
--
-- claimed is scaled up from a random sample where there are more claims. oldest job is found among the lanes due first and
-- those due last; oldest held among the events of the team whose wait is over first.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[1])

local function arrival(entry)
  return entry and tonumber(string.match(entry, '^%d+')) or nil
end

local function least(a, b)
  return a and b and math.min(a, b) or a or b
end

local function text(number)
  return number and string.format('%.0f', number) or ''
end

local unread = redis.call('XRANGE', KEYS[1], '(' .. (redis.call('HGET', KEYS[2], 'cursor') or '0-0'), '+', 'COUNT', 1)[1]
local held = nil
local team = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
if team then
  for _, facts in ipairs(redis.call('ZRANGE', KEYS[5] .. team, 0, most - 1)) do
    held = least(held, tonumber(cjson.decode(facts)[7])) -- arrived: store/records.py
  end
end
local result = {now, text(unread and arrival(unread[1])), redis.call('EXISTS', KEYS[4]), text(held)}

for at = 6, #KEYS, 5 do
  local ready, claims, prefix = KEYS[at], KEYS[at + 1], KEYS[at + 2]
  local lanes, claimed, oldest = redis.call('ZCARD', ready), 0, nil
  local sample = redis.call('HRANDFIELD', claims, most, 'WITHVALUES')
  for pair = 1, #sample, 2 do
    local due = redis.call('ZSCORE', ready, sample[pair])
    if due and due ~= 'inf' and tonumber(due) > now and string.match(sample[pair + 1], '^%d+') ~= '0' then
      claimed = claimed + 1
    end
  end
  if claimed > 0 then
    claimed = math.floor(claimed * redis.call('HLEN', claims) / (#sample / 2) + 0.5)
  end
  for _, range in ipairs({{0, most - 1}, {-most, -1}}) do
    for _, lane in ipairs(redis.call('ZRANGE', ready, range[1], range[2])) do
      oldest = least(oldest, arrival(redis.call('LINDEX', prefix .. lane, 0)))
    end
  end
  local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')[2]
  local since = first and first ~= 'inf' and tonumber(first) <= now and first or ''
  if first and tonumber(first) < 1e12 then
    since = redis.call('ZSCORE', KEYS[at + 4], ':at') or first -- it has a turn instead of a time: since somebody last came
  end
  result[#result + 1] = {
    lanes, redis.call('ZCOUNT', ready, '-inf', now), claimed, since, text(oldest),
    redis.call('ZCOUNT', ready, '+inf', '+inf'), redis.call('HLEN', KEYS[at + 3]),
  }
end
return result
