#!lua flags=no-writes
-- Count a partition as it stands, in one step, so that the books can be compared with what is there.
--
-- KEYS  1 inbox   2 state   3 gaps   4 ledger   5 prefix of the held keys   6 quarantine   7 dead
--       then per handler: ready, prefix of its lane keys (the same hash tag)
-- ARGV  1 most unread entries to count   2 most bytes of their bodies   3 most lanes and held teams to count
-- Returns  {accepted, in the stream, unread, held, quarantine, dead, last entry, ledger as a flat list,
--           waiting per handler...}
--          unread, held or waiting is -1 where there is more than may be counted
--
-- accepted is the stream's own count of everything ever added (XINFO STREAM, entries-added). A server counts no range of
-- a stream without reading it, and nothing else runs meanwhile: hence the bounds.
local accepted, length, last = 0, 0, '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #info, 2 do
    if info[at] == 'entries-added' then
      accepted = info[at + 1]
    elseif info[at] == 'length' then
      length = info[at + 1]
    elseif info[at] == 'last-generated-id' then
      last = info[at + 1]
    end
  end
end

local most, bytes, keys = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local unread, from = 0, '(' .. (redis.call('HGET', KEYS[2], 'cursor') or '0-0')
while true do
  -- A short page at first: bodies may be a megabyte each.
  local count = unread == 0 and 16 or 128
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', count)
  unread = unread + #page
  for _, entry in ipairs(page) do
    for field = 2, #entry[2], 2 do
      bytes = bytes - #entry[2][field]
    end
  end
  if #page < count then
    break
  end
  if unread >= most or bytes <= 0 then
    unread = -1
    break
  end
  from = '(' .. page[#page][1]
end

-- The sum of what lies in the keys that a sorted set names, if they are not too many.
local function sum(names, prefix, command)
  local count = redis.call('ZCARD', names)
  if count > keys then
    return -1
  end
  keys = keys - count
  local total = 0
  for _, name in ipairs(redis.call('ZRANGE', names, 0, -1)) do
    total = total + redis.call(command, prefix .. name)
  end
  return total
end

local result = {
  accepted, length, unread, sum(KEYS[3], KEYS[5], 'ZCARD'), redis.call('XLEN', KEYS[6]), redis.call('XLEN', KEYS[7]), last,
  redis.call('HGETALL', KEYS[4]),
}
for at = 8, #KEYS, 2 do
  result[#result + 1] = sum(KEYS[at], KEYS[at + 1], 'LLEN')
end
return result
