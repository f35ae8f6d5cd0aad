-- The room is no more.
-- Returns done. Atomic, as nobody must write or join in between.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local answer, room = done(), revision()
local removed = redis.call('HGET', meta, 'removed') or ''
redis.call('DEL', unpack(own))
-- A node that does not hear of it must not take it for lost, also if another is removed meanwhile.
redis.call('HSET', meta, 'removed', string.sub(room .. ' ' .. removed, 1, 500))
redis.call('PEXPIRE', meta, 2 * lease)
redis.call('PUBLISH', ARGV[7], '{"told":{"Removed":{"room":"' .. room .. '"}}}')
return answer
