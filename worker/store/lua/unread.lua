#!lua flags=no-writes
-- Count some of a partition's unread entries, from the newest down to the cursor.
--
-- KEYS  1 inbox   2 state   3 ledger
-- ARGV  1 highest entry to count, "(" before it to leave it out   2 most entries
-- Returns  {counted, lowest entry counted ('' if none), cursor, deliveries read by now}
local cursor = redis.call('HGET', KEYS[2], 'cursor') or '0-0'
local page = redis.call('XREVRANGE', KEYS[1], ARGV[1], '(' .. cursor, 'COUNT', ARGV[2])
local lowest = page[#page]
return {#page, lowest and lowest[1] or '', cursor, tonumber(redis.call('HGET', KEYS[3], 'read') or 0)}
