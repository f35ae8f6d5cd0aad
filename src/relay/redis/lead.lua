-- The node leads the room, or stops leading it.
-- ARGV  8 lead or resign   9 the lead
-- Returns done, or led. Atomic, because only one of two nodes that want to lead may lead.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local lead, there, till = node .. '/' .. ARGV[9], unpack(redis.call('HMGET', leader, 'node', 'until'))
if ARGV[8] == 'resign' then
  if there == lead then redis.call('DEL', leader) end
elseif there and there ~= lead and tonumber(till) > now then
  return {'led'}
else
  redis.call('HSET', leader, 'node', lead, 'until', now + lease)
  renew()
end
return done()
