-- Sends news to all nodes, outside the room's order.
-- ARGV  8 the message   9 the node that must renew its lease, or nothing   10 until when, in ms from now
-- Returns done. Atomic, because a node that is out must not send news.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
-- LT: a lease that ends sooner stays. XX: a node that is out stays out. The half marks the lease as shortened.
if ARGV[9] ~= '' then redis.call('ZADD', nodes, 'XX', 'LT', now + ARGV[10] + 0.5, ARGV[9]) end
publish(ARGV[8])
return done()
