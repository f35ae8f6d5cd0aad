-- The node is in the room, which is created if it is not there.
-- ARGV  7 the epoch of a new room   8 the identity, 9 the epoch and 10 the revision of the room that the node
--       has, if it has one          11 the name that the node had in it before
--       12 the schema of a new room, or nothing where none is to be created   13 how many sessions it may have
--       14 1 where it is locked     15 at which revision it was closed last   16 how many bytes it may have
--       17 how many are banned      then those, and for how long (ms); then names and values
-- Returns the room, or nowhere. Atomic, as of two nodes that create a room one must win.
local known = ARGV[8]
if is_there and known ~= '' then
  local room, epoch, number = revision()
  if room ~= known then return {'nowhere'} end
  if ARGV[11] ~= '' then put_out(ARGV[11]) end
  -- The last of it was lost, and the node has that.
  if epoch == ARGV[9] and tonumber(number) < tonumber(ARGV[10]) then is_there = false end
end
local is_new = not is_there and ARGV[12] ~= ''
if not is_there and not is_new then return {'nowhere'} end
local removed = redis.call('HGET', meta, 'removed')
if is_new and known ~= '' and removed == known then return {'nowhere'} end
if is_new then
  -- Refused if the broker's memory is full, unlike what frees some.
  redis.call('HSET', meta, 'heard', now)
  -- What may be left of one that was lost.
  redis.call('DEL', unpack(own))
  redis.call('HSET', meta, 'room', known ~= '' and known or ARGV[7], 'epoch', ARGV[7],
    'revision', known ~= '' and tonumber(ARGV[10]) + 1 or 0,
    'schema', ARGV[12], 'max', ARGV[13], 'locked', ARGV[14], 'closed', ARGV[15], 'bytes', ARGV[16], 'heard', now)
  if removed then redis.call('HSET', meta, 'removed', removed) end
  local first = 18 + 2 * tonumber(ARGV[17])
  for at = 18, first - 1, 2 do ban(ARGV[at], ARGV[at + 1]) end
  set(ARGV, first)
  for at = first, #ARGV, 2 do create(ARGV[at]) end
end
renew()
return read(is_new and '1' or '0')
