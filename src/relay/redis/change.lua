-- What the room is changes for all nodes.
-- ARGV  7 locked, max, bytes, schema, ban or closed   8 the change as JSON, for the message   9... its own:
--       locked: 1 or 0   max: how many sessions   bytes: how many   schema: its name   ban: who, for how long (ms)
-- Returns done. Atomic, as the revision must be that of the change.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local message, number = next_revision()
local deed = ARGV[7]
if deed == 'ban' then
  ban(ARGV[9], ARGV[10])
elseif deed == 'closed' then
  redis.call('HSET', meta, 'closed', number)
  redis.call('DEL', sessions, names)
else
  redis.call('HSET', meta, deed, ARGV[9])
end
redis.call('PUBLISH', ARGV[6], message .. ',"at":' .. ARGV[5] .. ',"change":' .. ARGV[8] .. '}')
return done()
