-- Changes the room for all nodes.
-- ARGV  8 locked, max, variables, bytes, schema, ban or closed   9 the change as JSON, for the message   10... its own:
--       locked: 1 or 0   max: how many sessions   variables, bytes: how many   schema: its name   ban: key, its name, for how long (ms)
-- Returns done. Atomic, because the revision must be that of the change.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local message, number = next_revision()
local deed = ARGV[8]
if deed == 'ban' then
  ban(ARGV[10], ARGV[11], ARGV[12])
elseif deed == 'closed' then
  redis.call('HSET', meta, 'closed', number)
  redis.call('DEL', sessions, names)
else
  redis.call('HSET', meta, deed, ARGV[10])
end
publish(message .. ',"at":' .. ARGV[6] .. ',"change":' .. ARGV[9] .. '}')
return done()
