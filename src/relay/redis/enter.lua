-- The node is in the room, which is created if it is not there.
-- ARGV  4 the epoch of a new room   5 its schema, or nothing where none is to be created
--       6 the epoch of the room that the node has and the broker does not, or nothing
--       7... names and values of a new room
-- Returns the room, or nowhere. Atomic, as of two nodes that create a room one must win.
local is_new = not is_there and ARGV[5] ~= ''
if not is_there and not is_new then return {'nowhere'} end
if is_new and ARGV[6] ~= '' and redis.call('HGET', meta, 'removed') == ARGV[6] then return {'nowhere'} end
if is_new then
  -- What may be left of one that was lost.
  redis.call('DEL', unpack(KEYS))
  redis.call('HSET', meta, 'epoch', ARGV[4], 'revision', 0, 'schema', ARGV[5], 'heard', now)
  set(ARGV, 7)
  for at = 7, #ARGV, 2 do create(ARGV[at]) end
end
renew()
return read(is_new and '1' or '0')
