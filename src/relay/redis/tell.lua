-- Sends news to all nodes, outside the room's order.
-- ARGV  8 the message
-- Returns done. Atomic, because a node that is out must not send news.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return done()
