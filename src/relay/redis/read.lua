-- Reads the room. Atomic, because the values must be those of the revision.
-- Returns the room, or nowhere.
if not is_there then return {'nowhere'} end
return read('0')
