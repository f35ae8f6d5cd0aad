-- What the host of a node does to a room.
-- ARGV  4 lock, unlock, ban, tell, remove, lead or resign   5... its own:
--       ban: who, for how long (ms)   tell and remove: the channel, the message
-- Returns done, or led. Atomic, as of two nodes that want to lead one must, and who is out does nothing.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
local deed, answer = ARGV[4], done()
if deed == 'lock' then
  redis.call('HSET', meta, 'locked', 1)
elseif deed == 'unlock' then
  redis.call('HDEL', meta, 'locked')
elseif deed == 'ban' then
  redis.call('HSET', bans, ARGV[5], now + tonumber(ARGV[6]))
elseif deed == 'lead' then
  local there, till = unpack(redis.call('HMGET', leader, 'node', 'until'))
  if there and there ~= node and tonumber(till) > now and redis.call('ZSCORE', nodes, there) then
    return {'led'}
  end
  redis.call('HSET', leader, 'node', node, 'until', now + lease)
elseif deed == 'resign' then
  if redis.call('HGET', leader, 'node') == node then redis.call('DEL', leader) end
else
  if deed == 'remove' then redis.call('DEL', unpack(KEYS)) end
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return answer
