-- Included by the scripts that change who needs a body. An entry of the inbox stays while it has users: jobs that wait for
-- it, dead letters, the archive. refs has their number as jobs + DEAD * dead letters + ARCHIVED * 1; an entry that is
-- not in it has exactly one user.
local DEAD, ARCHIVED = 32768, 1073741824

-- users.move(entry, from, to, alone, size): one user becomes another sort of user: 1 a job, DEAD, ARCHIVED, or 0 for
-- none. With from 0, `alone` is the sort that an entry without a number has (else nil); `size` is its body's, bytes.
-- Returns whether the entry is in the archive still.
-- users.finish(): removes the bodies that nobody needs any more, and writes the ledger. Call it once, last.
local function users_of(refs, inbox, ledger)
  local users = {freed = {}, kept = 0, kept_bytes = 0}
  function users.move(entry, from, to, alone, size)
    local stored = redis.call('HGET', refs, entry)
    local before = tonumber(stored) or alone or from
    local after = before - from + to
    if after == 0 or after == 1 or after == DEAD or after == ARCHIVED then
      if stored then
        redis.call('HDEL', refs, entry)
      end
    else
      redis.call('HSET', refs, entry, string.format('%.0f', after))
    end
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
  function users.finish()
    local freed = users.freed
    for from = 1, #freed, 1000 do
      redis.call('XDEL', inbox, unpack(freed, from, math.min(from + 999, #freed)))
    end
    if #freed > 0 then
      redis.call('HINCRBY', ledger, 'stored', -#freed)
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
