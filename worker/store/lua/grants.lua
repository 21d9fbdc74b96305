-- The calls that a rate granted lately: never more of them than it allows in any stretch of its length.
--
-- A list of "ms total", oldest first: how many were granted until then, over all. Its first entry, "0 total", stands for
-- those that have left the stretch. So what is used is a difference, and costs the same however many there were. Grants
-- within a hundredth of the stretch share one entry dated by the latest, so that the list is never longer than 102; a
-- call may count for that much longer, and never for less. A log, and not a refilled bucket, which lets twice the calls
-- through around its refill.
local Grants = {}

function Grants.parse(entry)
  local at, total = string.match(entry, '^(%d+) (%d+)$')
  return tonumber(at), tonumber(total)
end

function Grants.text(at, total)
  return string.format('%.0f %.0f', at, total)
end

-- Calls used in the stretch that ends now.
function Grants.used(key, stretch, now)
  local newest = redis.call('LINDEX', key, -1)
  if not newest then
    return 0
  end
  local _, gone = Grants.parse(redis.call('LINDEX', key, 0))
  local left = false
  while true do
    local oldest = redis.call('LINDEX', key, 1)
    local at, total = Grants.parse(oldest or newest)
    -- Milliseconds are rounded down: one more, or two calls might be that much nearer to each other than the stretch.
    if not oldest or at + stretch >= now then
      break
    end
    redis.call('LPOP', key)
    gone, left = math.max(gone, total), true
  end
  if left then
    redis.call('LSET', key, 0, Grants.text(0, gone))
  end
  local _, total = Grants.parse(redis.call('LINDEX', key, -1))
  return math.max(0, total - gone)
end

function Grants.add(key, stretch, now, count)
  local newest = redis.call('LINDEX', key, -1)
  if not newest then
    newest = '0 0'
    redis.call('RPUSH', key, newest)
  end
  local at, total = Grants.parse(newest)
  local slot = math.ceil(stretch / 100)
  local same = at > 0 and math.floor(at / slot) == math.floor(now / slot)
  local entry = Grants.text(now, total + count)
  if same then
    redis.call('LSET', key, -1, entry)
  else
    redis.call('RPUSH', key, entry)
  end
  redis.call('PEXPIRE', key, stretch + 2)
end

-- Take back calls that were granted at a time and not made. They count as the oldest of all: what was granted since
-- stays where it is, so the rest leaves the stretch later than it might, and never before its time.
function Grants.undo(key, stretch, now, count, granted)
  local newest = redis.call('LINDEX', key, -1)
  if not newest or granted + stretch < now then
    return
  end
  local _, gone = Grants.parse(redis.call('LINDEX', key, 0))
  local _, total = Grants.parse(newest)
  redis.call('LSET', key, 0, Grants.text(0, math.min(total, gone + count)))
end

-- Milliseconds until so many of the used calls have left the stretch.
function Grants.wait(key, stretch, now, calls, count)
  local entries = redis.call('LRANGE', key, 0, -1)
  local gone, used = 0, 0
  if #entries > 0 then
    local _, first = Grants.parse(entries[1])
    local _, last = Grants.parse(entries[#entries])
    gone, used = first, last - first
  end
  local later = 0
  if count > used then
    -- They are still to be granted themselves, at the soonest one stretch before they leave it.
    later = math.ceil((count - used) / calls) * (stretch + 1)
    count = (count - used - 1) % calls + 1
    count = math.min(count, used)
  end
  for at = 2, #entries do
    local granted, total = Grants.parse(entries[at])
    if total - gone >= count then
      return math.max(1, granted + stretch + 1 - now) + later
    end
  end
  return math.max(1, later)
end
