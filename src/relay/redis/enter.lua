-- The node enters the room, which is created if it does not exist.
-- ARGV  8 the epoch of a new room   9 the identity, 10 the epoch and 11 the revision of the room that the node
--       has, if it has one          12 the name that the node had in it before
--       13 the schema of a new room, or nothing if none is to be created   14 how many sessions it may have
--       15 1 if it is locked       16 at which revision it was closed last   17 how many bytes it may have
--       18 how many variables it may have   19 how many bans there are
--       then for each ban its key, its name, and for how long (ms); then names and values
-- Returns the room, or nowhere. Atomic, because of two nodes that create a room one must win.
local known = ARGV[9]
if is_there and known ~= '' then
  local room, epoch, number = revision()
  if room ~= known then return {'nowhere'} end
  if ARGV[12] ~= '' then put_out(ARGV[12]) end
  -- The broker has lost the room's latest changes, but the node has them.
  if epoch == ARGV[10] and tonumber(number) < tonumber(ARGV[11]) then
    is_there = false
    -- The node's bans are later, too. One that was lifted must not come back.
    redis.call('DEL', bans)
  end
end
local is_new = not is_there and ARGV[13] ~= ''
if not is_there and not is_new then return {'nowhere'} end
local removed = redis.call('HGET', meta, 'removed')
local was_removed = removed and string.find(' ' .. removed .. ' ', ' ' .. known .. ' ', 1, true)
if is_new and known ~= '' and was_removed then return {'nowhere'} end
if is_new then
  -- This refuses a new room if the broker's memory is full; the commands below, which free some, would not.
  redis.call('HSET', meta, 'heard', now)
  -- Deletes the remains of a room that was lost.
  redis.call('DEL', unpack(own))
  redis.call('HSET', meta, 'version', version, 'room', known ~= '' and known or ARGV[8], 'epoch', ARGV[8],
    'revision', known ~= '' and tonumber(ARGV[11]) + 1 or 0,
    'schema', ARGV[13], 'max', ARGV[14], 'locked', ARGV[15], 'closed', ARGV[16], 'bytes', ARGV[17],
    'variables', ARGV[18], 'heard', now)
  if removed then redis.call('HSET', meta, 'removed', removed) end
  local first = 20 + 3 * tonumber(ARGV[19])
  for at = 20, first - 1, 3 do ban(ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
  set(ARGV, first)
  for at = first, #ARGV, 2 do create(ARGV[at]) end
end
renew()
return read(is_new and '1' or '0')
