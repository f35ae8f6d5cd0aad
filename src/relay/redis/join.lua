-- A session begins, and others of the node are over.
-- ARGV  4 its number   5 its name   6 1 where it shares that with others   7 sessions at most
--       8 under how many it may be banned   then those, then the numbers of the sessions that are over
-- Returns done, or locked, banned, name (and who has it), full. Atomic, as of two who want a name one must
-- get it.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
local first = 9 + tonumber(ARGV[8])
for at = first, #ARGV do leave(node .. '/' .. ARGV[at]) end
local session, name = node .. '/' .. ARGV[4], ARGV[5]
-- It may have been asked for before, and the answer was lost.
if redis.call('HEXISTS', sessions, session) == 1 then return done() end
if redis.call('HEXISTS', meta, 'locked') == 1 then return {'locked'} end
for at = 9, first - 1 do
  if tonumber(redis.call('HGET', bans, ARGV[at]) or 0) > now then return {'banned'} end
end
if ARGV[6] ~= '1' and redis.call('HEXISTS', names, name) == 1 then
  local all = redis.call('HGETALL', sessions)
  for at = 1, #all, 2 do
    if all[at + 1] == name then return {'name', string.match(all[at], '^(.*)/(%d+)$')} end
  end
end
if redis.call('HLEN', sessions) >= tonumber(ARGV[7]) then return {'full'} end
redis.call('HSET', sessions, session, name)
redis.call('HINCRBY', names, name, 1)
renew()
return done()
