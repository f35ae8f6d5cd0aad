-- Reads the room. Atomic, because the values must be those of the revision.
-- Returns the room, or nowhere.
-- A write that changes nothing, so that a replica refuses: its values may be old.
redis.call('HDEL', meta, '')
if not is_there then return {'nowhere'} end
return read('0')
