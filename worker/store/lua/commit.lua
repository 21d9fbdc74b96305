#!lua flags=allow-oom
-- Write a sequencer's plan, all of it or nothing, if the lease is still its own.
--
-- KEYS  1 lease   2 inbox   3 .. B+2 the bells of the runners that got jobs   then C lists that bells are pushed to
--       then every key that the commands write
-- ARGV  1 token   2 lease ms   3 bell ms   4 B   5 the last entry that was read ('' if none)   6 the next token
--       7 C: B where the broker is this server, else 0   8 .. C+7 the messages
--       then the commands, each: number of words that follow, command, index of its key in KEYS, arguments
-- Returns  {1, bells...}   OK; for each bell 0 if one is on its way already, 1 if it was pushed or, where none is, is for
--                          the caller to ring, 2 NOT_PUSHED if it could not be: then the caller rings it, too
--          {-1}            LEASE_LOST: nothing was written
--
-- A plan builds on what its owner has read and written. A server that took the place of another may lack the last of
-- that, and have the lease all the same. So each commit leaves a token of its own, and the entries that it builds on have
-- to be there: what is copied to such a server, or comes back from a file, is always a beginning of what was written.
--
-- Commands come in chunks that unpack() can take. allow-oom: this stores no body, and lets the backlog drain.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {-1}
end
if ARGV[5] ~= '' and #redis.call('XRANGE', KEYS[2], ARGV[5], ARGV[5]) == 0 then
  return {-1}
end
local bells, pushed = tonumber(ARGV[4]), tonumber(ARGV[7])
local at, last = 8 + pushed, #ARGV
while at <= last do
  local words = tonumber(ARGV[at])
  redis.call(ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])], unpack(ARGV, at + 3, at + words))
  at = at + words + 1
end
redis.call('SET', KEYS[1], ARGV[6], 'PX', ARGV[2]) -- last: after an error the owner goes on with the token it has
local result = {1}
for bell = 1, bells do
  local new = redis.call('SET', KEYS[bell + 2], 1, 'NX', 'PX', ARGV[3])
  result[bell + 1] = new and 1 or 0
  if new and pushed > 0 then
    -- A bell that can't be pushed is no reason to say that all this failed.
    local answer = redis.pcall('LPUSH', KEYS[bells + bell + 2], ARGV[bell + 7])
    if type(answer) == 'table' and answer.err then
      result[bell + 1] = 2
    end
  end
end
return result
