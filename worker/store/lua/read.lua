#!lua flags=no-writes
-- Read a partition's next deliveries, and the teams whose gap wait may be over.
--
-- KEYS  1 inbox   2 gaps
-- ARGV  1 cursor   2 most entries   3 most bytes of bodies   4 most entries to look at in one go   5 most teams
-- Returns  {seconds, microseconds, drained, entries, teams}   see reading.lua
--#include reading
return read_inbox(KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
