#!lua flags=no-writes
-- Count a partition as it stands, in one step, so that the books can be compared with what is there.
--
-- KEYS  1 inbox   2 state   3 gaps   4 ledger   5 prefix of the held keys   6 quarantine   7 dead
--       then per handler: ready, prefix of its lane keys (the same hash tag)
-- Returns  {accepted, in the stream, unread, held, quarantine, dead, ledger as a flat list, waiting per handler...}
--
-- accepted is the stream's own count of everything ever added (XINFO STREAM, entries-added).
local accepted, length = 0, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #info, 2 do
    if info[at] == 'entries-added' then
      accepted = info[at + 1]
    elseif info[at] == 'length' then
      length = info[at + 1]
    end
  end
end
local unread, from = 0, '(' .. (redis.call('HGET', KEYS[2], 'cursor') or '0-0')
while true do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 500)
  unread = unread + #page
  if #page < 500 then
    break
  end
  from = '(' .. page[#page][1]
end
local held = 0
for _, team in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  held = held + redis.call('ZCARD', KEYS[5] .. team)
end
local result = {
  accepted, length, unread, held, redis.call('XLEN', KEYS[6]), redis.call('XLEN', KEYS[7]),
  redis.call('HGETALL', KEYS[4]),
}
for at = 8, #KEYS, 2 do
  local waiting = 0
  for _, lane in ipairs(redis.call('ZRANGE', KEYS[at], 0, -1)) do
    waiting = waiting + redis.call('LLEN', KEYS[at + 1] .. lane)
  end
  result[#result + 1] = waiting
end
return result
