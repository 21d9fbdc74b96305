#!lua flags=allow-oom
-- Accept quarantined deliveries once more: each goes from the quarantine to the end of the inbox.
--
-- KEYS  1 quarantine   2 inbox
-- ARGV  per delivery: its id, "1" if a person vouches that its event was not handled before
-- Returns  a number per delivery: 1 it is in the inbox   0 it is not in the quarantine any more
--
-- allow-oom: the body only changes its place.
local result = {}
for at = 1, #ARGV, 2 do
  local found = redis.call('XRANGE', KEYS[1], ARGV[at], ARGV[at])[1]
  if found then
    local words = {}
    for field = 1, #found[2], 2 do
      local name = found[2][field]
      if name == 'b' or name == 't' then
        words[#words + 1] = name
        words[#words + 1] = found[2][field + 1]
      end
    end
    if ARGV[at + 1] == '1' then
      words[#words + 1] = 'vouched'
      words[#words + 1] = '1'
    end
    redis.call('XADD', KEYS[2], '*', unpack(words))
    redis.call('XDEL', KEYS[1], ARGV[at])
  end
  result[#result + 1] = found and 1 or 0
end
return result
