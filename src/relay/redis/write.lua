-- Values for variables, which are published in their order.
-- ARGV  4 the number of the first   5 of the last   6 the channel   7 all as JSON: [["name","value"],...]
--       8 how many variables go   then their names, then names and values of the others
-- Returns done. Atomic, as the order of values must be that of messages; and one that was taken in
-- already, whose answer was lost, must not overwrite what came after.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if tonumber(ARGV[4]) <= tonumber(redis.call('HGET', written, node) or 0) then return done() end
local first = 9 + tonumber(ARGV[8])
for at = 9, first - 1 do redis.call('HDEL', variables, ARGV[at]) end
set(ARGV, first)
-- Keys that are new get the time that the room has.
if redis.call('HSET', written, node, ARGV[5]) == 1 then renew() end
local number = redis.call('HINCRBY', meta, 'revision', 1)
local epoch = redis.call('HGET', meta, 'epoch')
redis.call('PUBLISH', ARGV[6], '{"epoch":"' .. epoch .. '","number":' .. number .. ',"node":"' .. node ..
  '","first":' .. ARGV[4] .. ',"writes":' .. ARGV[7] .. '}')
return done()
