-- A session begins, and the sessions that it replaces end.
-- ARGV  8 its number   9 its name   10 1 if it shares the name with others
--       11 under how many keys it may be banned   then those, then the numbers of the sessions that it replaces
-- Returns done, or locked, banned, name (and the session that has it), full. Atomic, because of two sessions
-- that want a name one must get it.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
-- Names are stored with whether they are shared: + or -.
local shares = ARGV[10] == '1'
local session, name = node .. '/' .. ARGV[8], (shares and '+' or '-') .. ARGV[9]
-- The session may have begun already, if the answer was lost.
if not take() or redis.call('HEXISTS', sessions, session) == 1 then return done() end
if redis.call('HGET', meta, 'locked') == '1' then return {'locked'} end
local first = 12 + tonumber(ARGV[11])
for at = 12, first - 1 do
  if banned_until(redis.call('HGET', bans, ARGV[at])) > now then return {'banned'} end
end
local replaced, count = {}, 0
for at = first, #ARGV do
  local old = node .. '/' .. ARGV[at]
  if redis.call('HEXISTS', sessions, old) == 1 then
    replaced[old], count = true, count + 1
  end
end
-- A name is shared only if both sessions allow it.
local shared = not shares and redis.call('HEXISTS', names, '+' .. ARGV[9]) == 1
if shared or redis.call('HEXISTS', names, '-' .. ARGV[9]) == 1 then
  local all = redis.call('HGETALL', sessions)
  for at = 1, #all, 2 do
    local is_free = shares and string.sub(all[at + 1], 1, 1) == '+'
    if string.sub(all[at + 1], 2) == ARGV[9] and not is_free and not replaced[all[at]] then
      return {'name', string.match(all[at], '^(.*)/(%d+)$')}
    end
  end
end
if redis.call('HLEN', sessions) - count >= tonumber(redis.call('HGET', meta, 'max')) then return {'full'} end
for old in pairs(replaced) do leave(old) end
redis.call('HSET', sessions, session, name)
redis.call('HINCRBY', names, name, 1)
renew()
return done()
