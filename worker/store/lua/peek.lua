#!lua flags=no-writes
-- How lanes of a handler are getting on.
--
-- KEYS  1 ready   2 claims   3 trouble   4 blocked   5 prefix of the handler's lane keys (same hash tag)
-- ARGV  the lanes
-- Returns  {now, lane...}   ms; each {jobs, when it is due ('' if never), claim, trouble, why it is blocked, first job}
--          what there is not is ''
local time = redis.call('TIME')
local result = {time[1] * 1000 + math.floor(time[2] / 1000)}
for _, lane in ipairs(ARGV) do
  local key = KEYS[5] .. lane
  result[#result + 1] = {
    redis.call('LLEN', key), redis.call('ZSCORE', KEYS[1], lane) or '', redis.call('HGET', KEYS[2], lane) or '',
    redis.call('HGET', KEYS[3], lane) or '', redis.call('HGET', KEYS[4], lane) or '', redis.call('LINDEX', key, 0) or '',
  }
end
return result
