-- What all scripts begin with. Each is one step of a room: atomic, as it looks at what others may change
-- (leases, names, the revision) before it changes anything.
--
-- KEYS  1 meta {epoch, revision, schema, heard, locked}, or {removed} for a while   2 variables {name -> value}
--       3 nodes (by when their lease ends, ms)    4 sessions {node/number -> name}
--       5 names {name -> how many have it}        6 written {node -> the number of its last write}
--       7 bans {who -> until when, ms}            8 leader {node -> node/number of its lead, until}
--       9 order {name of a variable -> the how manieth it was that was created}
-- ARGV  1 the node   2 a lease, ms   3 how long a room stays that no node is in, ms   4... the script's own
local meta, variables, nodes, sessions, names, written, bans, leader, order = unpack(KEYS)
local node, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function leave(session)
  local name = redis.call('HGET', sessions, session)
  if name then
    redis.call('HDEL', sessions, session)
    if redis.call('HINCRBY', names, name, -1) <= 0 then redis.call('HDEL', names, name) end
  end
end

-- Nodes whose lease is over are out, and their sessions with them. Where nobody was heard for long, the
-- broker was away, and not the nodes: they get the time that it takes to renew (three times a lease).
local function expire()
  local heard = tonumber(redis.call('HGET', meta, 'heard') or now)
  redis.call('HSET', meta, 'heard', now)
  if now - heard > lease / 2 then
    for _, there in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now + 0.4 * lease)) do
      redis.call('ZADD', nodes, math.floor(now + 0.4 * lease), there)
    end
    return
  end
  for _, out in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now)) do
    redis.call('ZREM', nodes, out)
    redis.call('HDEL', written, out)
    for _, session in ipairs(redis.call('HKEYS', sessions)) do
      if string.sub(session, 1, #out + 1) == out .. '/' then leave(session) end
    end
  end
end

local function renew()
  redis.call('ZADD', nodes, now + lease, node)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, lease + ttl) end
end

local function create(name)
  redis.call('ZADD', order, redis.call('HINCRBY', meta, 'created', 1), name)
end

local function set(values, from)
  for at = from, #values, 1000 do
    redis.call('HSET', variables, unpack(values, at, math.min(at + 999, #values)))
  end
end

local function revision()
  return redis.call('HGET', meta, 'epoch'), redis.call('HGET', meta, 'revision')
end

local function done()
  return {'done', revision()}
end

-- Names and values, in the order in which the variables were created.
local function all()
  local order, values = redis.call('ZRANGE', order, 0, -1), {}
  for at = 1, #order, 1000 do
    for n, value in ipairs(redis.call('HMGET', variables, unpack(order, at, math.min(at + 999, #order)))) do
      values[#values + 1] = order[at + n - 1]
      values[#values + 1] = value
    end
  end
  return values
end

local function read(is_new)
  local epoch, number = revision()
  return {
    'room', epoch, number, redis.call('HGET', meta, 'schema'), is_new,
    redis.call('HGET', written, node) or '0', all(),
  }
end

local is_there = redis.call('HEXISTS', meta, 'epoch') == 1
if is_there then expire() end
local is_in = redis.call('ZSCORE', nodes, node)
