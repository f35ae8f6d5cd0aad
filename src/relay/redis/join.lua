-- A session begins, and others of the node are over.
-- ARGV  4 its number   5 its name, or nothing   6 sessions at most   7... numbers of those that are over
-- Returns done, or name or full where it cannot. Atomic, as of two who want a name one must get it.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
for at = 7, #ARGV do leave(node .. '/' .. ARGV[at]) end
local session, name = node .. '/' .. ARGV[4], ARGV[5]
-- It may have been asked for before, and the answer was lost.
if redis.call('HEXISTS', sessions, session) == 1 then return done() end
if name ~= '' and redis.call('HEXISTS', names, name) == 1 then return {'name'} end
if redis.call('HLEN', sessions) >= tonumber(ARGV[6]) then return {'full'} end
redis.call('HSET', sessions, session, name)
if name ~= '' then redis.call('HSET', names, name, session) end
renew()
return done()
