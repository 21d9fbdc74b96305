#!lua flags=no-writes
-- Count some of a partition's unread entries, from the newest down to the cursor.
--
-- KEYS  1 inbox   2 state   3 ledger
-- ARGV  1 highest entry to count, "(" before it to leave it out   2 most entries   3 most bytes of their bodies
-- Returns  {counted, lowest entry counted ('' if none), more, cursor, deliveries read by now}
--          more  0 if the cursor was reached
local cursor = redis.call('HGET', KEYS[2], 'cursor') or '0-0'
local count, lowest, highest, bytes, more = 0, '', ARGV[1], tonumber(ARGV[3]), 1
while more == 1 and count < tonumber(ARGV[2]) and bytes > 0 do
  local page = redis.call('XREVRANGE', KEYS[1], highest, '(' .. cursor, 'COUNT', 16)
  for _, entry in ipairs(page) do
    lowest = entry[1]
    for field = 2, #entry[2], 2 do
      bytes = bytes - #entry[2][field]
    end
  end
  count = count + #page
  more = #page == 16 and 1 or 0
  highest = '(' .. lowest
end
return {count, lowest, more, cursor, tonumber(redis.call('HGET', KEYS[3], 'read') or 0)}
