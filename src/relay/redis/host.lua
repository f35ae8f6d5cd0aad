-- What the host of a node does to a room.
-- ARGV  4 lock, unlock, ban, tell, schema, remove, lead or resign   5... its own:
--       ban: who, for how long (ms)   tell: the channel, the message   schema: the same, and the schema
--       remove: the channel           lead, resign: the number of the lead
-- Returns done, or led. Atomic, as of two nodes that want to lead one must, and who is out does nothing.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
local deed, answer = ARGV[4], done()
if deed == 'lock' then
  redis.call('HSET', meta, 'locked', 1)
elseif deed == 'unlock' then
  redis.call('HDEL', meta, 'locked')
elseif deed == 'ban' then
  local all = redis.call('HGETALL', bans)
  for at = 1, #all, 2 do
    if tonumber(all[at + 1]) <= now then redis.call('HDEL', bans, all[at]) end
  end
  redis.call('HSET', bans, ARGV[5], now + tonumber(ARGV[6]))
  renew()
elseif deed == 'lead' then
  local there, till = unpack(redis.call('HMGET', leader, 'node', 'until'))
  if there and there ~= node .. '/' .. ARGV[5] and tonumber(till) > now then return {'led'} end
  redis.call('HSET', leader, 'node', node .. '/' .. ARGV[5], 'until', now + lease)
  renew()
elseif deed == 'resign' then
  if redis.call('HGET', leader, 'node') == node .. '/' .. ARGV[5] then redis.call('DEL', leader) end
else
  local message = ARGV[6]
  if deed == 'schema' then redis.call('HSET', meta, 'schema', ARGV[7]) end
  if deed == 'remove' then
    -- A node that does not hear of it must not take it for lost.
    local epoch = revision()
    redis.call('DEL', unpack(KEYS))
    redis.call('HSET', meta, 'removed', epoch)
    redis.call('PEXPIRE', meta, 2 * lease)
    message = '{"told":{"Removed":{"epoch":"' .. epoch .. '"}}}'
  end
  redis.call('PUBLISH', ARGV[5], message)
end
return answer
