#!lua flags=allow-oom
-- Write a handler's circuit, if nobody has since it was read.
--
-- KEYS  1 control
-- ARGV  1 the version that was read (0: none)   2 the circuit
-- Returns  1 if it is written, 0 if there is another version now, and nothing was written
if tonumber(redis.call('HGET', KEYS[1], 'version') or '0') ~= tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'circuit', ARGV[2])
return 1
