-- Included by the scripts that end jobs. missed has the prospects ("team:prospect", the team as lanes have it) of which a
-- handler that conflates was not told the newest owner, for a change of theirs became a dead letter. As long as one is in
-- it, its changes do not cancel out (core/conflation.py): the handler has not what was there before them.
--
-- missed.note(lane, job, letter): a job ended: d done, which tells it; D given up, after which it has not been told.
local function missed_of(key)
  local missed, any = {}, redis.call('EXISTS', key) == 1
  function missed.note(lane, job, letter)
    if letter ~= 'D' and not (any and letter == 'd') then
      return
    end
    -- Whose it is says only a job that can be joined: core/jobs.py.
    local joint = string.match(job, '^%S+ %S+ %S+ %S+ %S+ %+(.*)$')
    if joint then
      local whose = string.match(lane, '^[^:]*') .. ':' .. cjson.decode(joint)[3]
      if letter == 'D' then
        any = true
        redis.call('SADD', key, whose)
        redis.call('PEXPIRE', key, 7776000000) -- 90 days after the last one
      else
        redis.call('SREM', key, whose)
      end
    end
  end
  return missed
end
