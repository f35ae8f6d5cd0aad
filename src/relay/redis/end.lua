end

local answer = step()
-- How many keys the room has, so that the next script notices if the server has evicted one.
if redis.call('HEXISTS', meta, 'epoch') == 1 then
  local count = redis.call('EXISTS', unpack(own))
  if count ~= tonumber(redis.call('HGET', meta, 'keys')) then redis.call('HSET', meta, 'keys', count) end
end
return answer
