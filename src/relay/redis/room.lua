-- The beginning of all scripts, after `PUBLISH`, the command that publishes messages. Each script is one atomic step of a room, because it reads state that other
-- nodes may change (leases, names, the revision) before it changes anything.
--
-- KEYS  1 meta {version, room, epoch, revision, schema, max, locked, closed, bytes, variables, heard, keys}, or {removed: the last removed rooms} for a while
--       2 variables {name -> value}               3 nodes (when their lease ends, ms; and a half if it was shortened)
--       4 sessions {node/number -> + or - and name, + if it is shared}   5 names {that -> how many have it}
--       6 taken {node -> the last number of the node that was taken}
--       7 bans {key -> until when, ms, and a name after a space}, which outlive the room
--       8 leader {node -> node/lead, until}
--       9 order {name of a variable -> its position in the order of creation}
-- ARGV  1 the node   2 the last of its numbers that it knows to be taken
--       3 a lease, ms   4 how long a room without nodes stays, ms
--       5 the first number of the request, and 6 the last, if it has any   7 the channel
--       8... the script's own
-- The version of keys and messages. Nodes do not touch rooms of other versions, and ignore their messages. A change
-- that nodes without it would get wrong needs a new version.
local version = '1'
local meta, variables, nodes, sessions, names, taken, bans, leader, order = unpack(KEYS)
local own = {meta, variables, nodes, sessions, names, taken, leader, order}
local node, lease, ttl = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function publish(message)
  redis.call(PUBLISH, ARGV[7], message)
end

local function leave(session)
  local name = redis.call('HGET', sessions, session)
  if name then
    redis.call('HDEL', sessions, session)
    if redis.call('HINCRBY', names, name, -1) <= 0 then redis.call('HDEL', names, name) end
  end
end

local function put_out(out)
  redis.call('ZREM', nodes, out)
  redis.call('HDEL', taken, out)
  for _, session in ipairs(redis.call('HKEYS', sessions)) do
    if string.sub(session, 1, #out + 1) == out .. '/' then leave(session) end
  end
end

local function is_shortened(lease_ends)
  return tonumber(lease_ends) % 1 ~= 0
end

local function led_until(moment)
  if redis.call('HEXISTS', leader, 'until') == 1 then redis.call('HSET', leader, 'until', moment) end
end

-- Puts out nodes whose lease is over, with their sessions. If no node has been heard from for long, the
-- broker was away or its clock was set forward, while the nodes were there. They get the time that it takes
-- to renew (a node renews three times per lease), and the leader gets the time after which it gives up by
-- itself. If the clock was set back, no lease ends later than one that begins now.
local function expire()
  local heard = tonumber(redis.call('HGET', meta, 'heard') or now)
  redis.call('HSET', meta, 'heard', now)
  if now < heard then
    for _, there in ipairs(redis.call('ZRANGEBYSCORE', nodes, '(' .. (now + lease), '+inf')) do
      redis.call('ZADD', nodes, now + lease, there)
    end
    if tonumber(redis.call('HGET', leader, 'until') or 0) > now + lease then led_until(now + lease) end
  elseif now - heard > lease / 2 then
    for _, there in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now + 0.4 * lease)) do
      redis.call('ZADD', nodes, math.floor(now + 0.4 * lease), there)
    end
    if tonumber(redis.call('HGET', leader, 'until') or 0) > heard then led_until(now + lease) end
    return
  end
  -- A newcomer that waits for a name sends requests all the time. If there were none, the broker stood still, and
  -- so did the renewals that a shortened lease waits for. It gets that time once more.
  local stood_still = now - heard > 500
  local over = redis.call('ZRANGEBYSCORE', nodes, '-inf', now, 'WITHSCORES')
  for at = 1, #over, 2 do
    if stood_still and is_shortened(over[at + 1]) then
      redis.call('ZADD', nodes, now + 2000, over[at])
    else
      put_out(over[at])
    end
  end
end

local function renew()
  redis.call('ZADD', nodes, now + lease, node)
  for _, key in ipairs(own) do redis.call('PEXPIRE', key, lease + ttl) end
end

-- The last number that was taken before this request.
local before = redis.call('HGET', taken, node) or '0'

-- Takes the request's numbers. Returns false if they were taken before: it is a retry, or comes too late.
local function take()
  if tonumber(ARGV[5]) <= tonumber(before) then return false end
  -- A new key expires together with the room.
  if redis.call('HSET', taken, node, ARGV[6]) == 1 then renew() end
  return true
end

local function create(name)
  redis.call('ZADD', order, redis.call('HINCRBY', meta, 'created', 1), name)
end

local function set(values, from)
  for at = from, #values, 1000 do
    redis.call('HSET', variables, unpack(values, at, math.min(at + 999, #values)))
  end
end

local function banned_until(entry)
  return tonumber(string.match(entry or '', '^%d+') or 0)
end

local function forget_old_bans()
  local all = redis.call('HGETALL', bans)
  for at = 1, #all, 2 do
    if banned_until(all[at + 1]) <= now then redis.call('HDEL', bans, all[at]) end
  end
end

-- Looks at all bans only each 256th time, because a room may have thousands.
local function ban(who, name, millis)
  if tonumber(millis) == 0 then
    redis.call('HDEL', bans, who)
    return
  end
  local till, left = now + tonumber(millis), redis.call('PTTL', bans)
  redis.call('HSET', bans, who, string.format('%.0f', till) .. ' ' .. name)
  -- The key expires with its last ban.
  redis.call('PEXPIREAT', bans, string.format('%.0f', math.max(till, now + left)))
  if redis.call('HLEN', bans) % 256 == 0 then forget_old_bans() end
end

-- Returns the room's identity, its epoch and its revision's number.
local function revision()
  return unpack(redis.call('HMGET', meta, 'room', 'epoch', 'revision'))
end

local function done()
  local room, epoch, number = revision()
  return {'done', room, epoch, number, before}
end

-- Returns the beginning of a message, with the next revision and the node, and the revision's number.
local function next_revision()
  local number = redis.call('HINCRBY', meta, 'revision', 1)
  local room, epoch = revision()
  return '{"v":' .. version .. ',"room":"' .. room .. '","epoch":"' .. epoch .. '","number":' .. number .. ',"node":"' .. node .. '"', number
end

-- Returns names and values, in the order in which the variables were created.
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

-- Returns the keys of the bans, their names, and how much longer they last.
local function banned()
  local left, all = {}, redis.call('HGETALL', bans)
  for at = 1, #all, 2 do
    local till = banned_until(all[at + 1])
    if till > now then
      left[#left + 1] = all[at]
      left[#left + 1] = string.match(all[at + 1], '^%d+ (.*)$') or ''
      left[#left + 1] = string.format('%.0f', till - now)
    end
  end
  return left
end

local function read(is_new)
  local room, epoch, number = revision()
  local schema, max, locked, closed, bytes, count =
    unpack(redis.call('HMGET', meta, 'schema', 'max', 'locked', 'closed', 'bytes', 'variables'))
  return {
    'room', room, epoch, number, schema, is_new, redis.call('HGET', taken, node) or '0',
    max, locked or '0', closed, bytes, count, banned(), all(),
  }
end

local known_epoch, keys, known_version = unpack(redis.call('HMGET', meta, 'epoch', 'keys', 'version'))
if known_version and known_version ~= version then return {'version', known_version} end
-- A server whose memory is full may evict single keys. What is left is no room: the nodes restore it whole.
local is_there = known_epoch and true
if is_there and keys and redis.call('EXISTS', unpack(own)) < tonumber(keys) then
  redis.call('DEL', unpack(own))
  is_there = false
end
if is_there then
  -- A broker whose memory is full refuses a script at its first command that may need memory, but does not
  -- stop a script that has begun to write. So this lets existing rooms go on, while none can be created.
  redis.call('HDEL', meta, '')
  expire()
end
local is_in = redis.call('ZSCORE', nodes, node)
-- Any request shows that its node is alive.
if is_in and is_shortened(is_in) then renew() end
-- The last number that was taken is lost: a number that is taken now would hide that.
if is_in and tonumber(before) < tonumber(ARGV[2]) then return {'lost'} end

-- What follows is the script's own step.
local function step()
