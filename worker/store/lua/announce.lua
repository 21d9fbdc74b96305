#!lua flags=allow-oom
-- Tell everybody which handlers there are. On a full server too: a worker that starts then has to begin its work.
--
-- KEYS  1 handlers
-- ARGV  pairs: name of a handler, its definition
-- Returns  1
for at = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
return 1
