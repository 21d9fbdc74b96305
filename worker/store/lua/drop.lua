#!lua flags=allow-oom
-- Forget dead letters. Their jobs stay counted as given up; a body leaves the inbox with its last user.
--
-- KEYS  1 dead   2 refs   3 inbox   4 ledger
-- ARGV  per letter: its id, the id of its event's body in the inbox, bytes of that
-- Returns  a number per letter: 1 it was dropped   0 it is no dead letter any more
--#include users
local users = users_of(KEYS[2], KEYS[3], KEYS[4])
local result = {}
for at = 1, #ARGV, 3 do
  local found = redis.call('XDEL', KEYS[1], ARGV[at])
  if found == 1 then
    users.move(ARGV[at + 1], DEAD, 0, nil, ARGV[at + 2])
  end
  result[#result + 1] = found
end
users.finish()
return result
