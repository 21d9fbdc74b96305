-- Included by the scripts that read deliveries: the next of an inbox, no more than fit into so many bytes, and the teams
-- whose gap wait may be over.
--
-- cursor: what was read last   count: most entries   bytes: most of bodies (the entry that reaches them is the last)
-- page: most entries to look at in one go   teams: most of them
-- Returns  {seconds, microseconds, drained, entries, teams}   entries as XRANGE has them; teams with their deadlines
--          drained  1 if there is nothing after these entries
--
-- Asked for a number of entries, the server would send that many whatever their size: 512 of a megabyte.
local function read_inbox(inbox, gaps, cursor, count, bytes, page, teams)
  local time = redis.call('TIME')
  local entries, from, drained = {}, '(' .. cursor, 0
  while count > 0 and bytes > 0 and drained == 0 do
    local most = math.min(page, count)
    local found = redis.call('XRANGE', inbox, from, '+', 'COUNT', most)
    local length = #entries
    for index = 1, #found do
      local entry = found[index]
      entries[length + index] = entry
      local fields = entry[2]
      for field = 2, #fields, 2 do
        bytes = bytes - #fields[field]
      end
      if bytes <= 0 then
        break
      end
    end
    if #found < most and #entries == length + #found then
      drained = 1
    elseif #found > 0 then
      count = count - #found
      from = '(' .. entries[#entries][1]
    end
  end
  return {time[1], time[2], drained, entries, redis.call('ZRANGE', gaps, 0, teams - 1, 'WITHSCORES')}
end
