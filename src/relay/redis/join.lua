-- A session begins, and others of the node are over.
-- ARGV  4 its number   5 its name, or nothing   6 sessions at most   7 how many may be banned   then those,
--       then the numbers of those that are over
-- Returns done, or locked, banned, name (and who has it), full. Atomic, as of two who want a name one must
-- get it.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
local first = 8 + tonumber(ARGV[7])
for at = first, #ARGV do leave(node .. '/' .. ARGV[at]) end
local session, name = node .. '/' .. ARGV[4], ARGV[5]
-- It may have been asked for before, and the answer was lost.
if redis.call('HEXISTS', sessions, session) == 1 then return done() end
if redis.call('HEXISTS', meta, 'locked') == 1 then return {'locked'} end
for at = 8, first - 1 do
  if tonumber(redis.call('HGET', bans, ARGV[at]) or 0) > now then return {'banned'} end
end
local holder = name ~= '' and redis.call('HGET', names, name)
if holder then return {'name', string.match(holder, '^(.*)/(%d+)$')} end
if redis.call('HLEN', sessions) >= tonumber(ARGV[6]) then return {'full'} end
redis.call('HSET', sessions, session, name)
if name ~= '' then redis.call('HSET', names, name, session) end
renew()
return done()
