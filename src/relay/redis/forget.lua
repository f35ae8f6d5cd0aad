-- The node leaves the room, which is deleted if no other node is in it.
-- ARGV  8 the identity of the room that the node had
-- Returns done. Atomic, because a node may enter the room at the same moment.
if not is_there or revision() ~= ARGV[8] then return {'nowhere'} end
local answer = done()
put_out(node)
if redis.call('ZCARD', nodes) == 0 then redis.call('DEL', unpack(own)) end
return answer
