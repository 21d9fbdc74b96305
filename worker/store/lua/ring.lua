#!lua flags=allow-oom
-- Ring for a partition's sequencer, unless a bell is out: the ingress does, in one write with what is to be sequenced.
--
-- KEYS  1 bell   2 the list that bells are pushed to
-- ARGV  1 bell ms   2 message
-- Returns  1 where it was rung, 0 where one is out
--
-- The ingress may load no script. Workers load this one, and until one has, it rings in another way (ingress/bells.py).
if redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) then
  redis.call('LPUSH', KEYS[2], ARGV[2])
  return 1
end
return 0
