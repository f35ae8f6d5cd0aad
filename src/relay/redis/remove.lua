-- Removes the room.
-- Returns done. Atomic, because no node may write or join in between.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local answer, room = done(), revision()
local removed = redis.call('HGET', meta, 'removed') or ''
redis.call('DEL', unpack(own))
-- A node that misses the message must not take the room for lost, even if another is removed meanwhile.
redis.call('HSET', meta, 'version', version, 'removed', string.sub(room .. ' ' .. removed, 1, 500))
redis.call('PEXPIRE', meta, 2 * lease)
publish('{"v":' .. version .. ',"told":{"Removed":{"room":"' .. room .. '"}}}')
return answer
