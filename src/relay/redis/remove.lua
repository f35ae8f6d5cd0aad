-- The room is no more.
-- Returns done. Atomic, as nobody must write or join in between.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local answer, room = done(), revision()
redis.call('DEL', unpack(own))
-- A node that does not hear of it must not take it for lost.
redis.call('HSET', meta, 'removed', room)
redis.call('PEXPIRE', meta, 2 * lease)
redis.call('PUBLISH', ARGV[6], '{"told":{"Removed":{"room":"' .. room .. '"}}}')
return answer
