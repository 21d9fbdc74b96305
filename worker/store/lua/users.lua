-- Included by the scripts that change who needs a body. An entry of the inbox stays while it has users: jobs that wait for
-- it, dead letters, the archive. refs has their number as jobs + DEAD * dead letters + ARCHIVED * 1; an entry that is
-- not in it has exactly one user.
local DEAD, ARCHIVED = 32768, 1073741824

-- users.expect(entries): reads at once what is known of entries that will be moved; others are read one by one.
-- users.move(entry, from, to, alone, size): one user becomes another sort of user: 1 a job, DEAD, ARCHIVED, or 0 for
-- none. With from 0, `alone` is the sort that an entry without a number has (else nil); `size` is its body's, bytes.
-- Returns whether the entry is in the archive still.
-- users.finish(): writes all of it, removes the bodies that nobody needs any more, and adds to the ledger. Call it once,
-- last.
local function users_of(refs, inbox, ledger)
  local users = {freed = {}, kept = 0, kept_bytes = 0}
  local stored, now = {}, {} -- by entry: the number in refs (false: none), and what it has to be (0: none)
  function users.expect(entries)
    for from = 1, #entries, 1000 do
      local last = math.min(from + 999, #entries)
      for index, number in ipairs(redis.call('HMGET', refs, unpack(entries, from, last))) do
        stored[entries[from + index - 1]] = tonumber(number) or false
      end
    end
  end
  function users.move(entry, from, to, alone, size)
    local number = stored[entry]
    if number == nil then
      number = tonumber(redis.call('HGET', refs, entry)) or false
      stored[entry] = number
    end
    local before = now[entry] or number or alone or from
    local after = before - from + to
    now[entry] = after
    if after <= 0 then
      users.freed[#users.freed + 1] = entry
    end
    -- kept and kept_bytes count the bodies that no job waits for.
    local waited, waits = before % DEAD > 0, after > 0 and after % DEAD > 0
    if waited and not waits and after > 0 then
      users.kept, users.kept_bytes = users.kept + 1, users.kept_bytes + size
    elseif not waited and (waits or after <= 0) then
      users.kept, users.kept_bytes = users.kept - 1, users.kept_bytes - size
    end
    return after >= ARCHIVED
  end
  local function in_chunks(command, key, words)
    for from = 1, #words, 1000 do
      redis.call(command, key, unpack(words, from, math.min(from + 999, #words)))
    end
  end
  function users.finish()
    local gone, changed = {}, {}
    for entry, after in pairs(now) do
      if after <= 0 or after == 1 or after == DEAD or after == ARCHIVED then
        gone[#gone + 1] = stored[entry] and entry or nil
      else
        changed[#changed + 1] = entry
        changed[#changed + 1] = string.format('%.0f', after)
      end
    end
    in_chunks('HDEL', refs, gone)
    in_chunks('HSET', refs, changed)
    in_chunks('XDEL', inbox, users.freed)
    if #users.freed > 0 then
      redis.call('HINCRBY', ledger, 'stored', -#users.freed)
    end
    if users.kept ~= 0 then
      redis.call('HINCRBY', ledger, 'kept', users.kept)
    end
    if users.kept_bytes ~= 0 then
      redis.call('HINCRBY', ledger, 'kept_bytes', string.format('%.0f', users.kept_bytes))
    end
  end
  return users
end
