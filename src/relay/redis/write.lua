-- Writes values of variables, and publishes the writes in their order.
-- ARGV  8 all as JSON, for the message   9 how many variables the room may have
--       then, for each write: the name, the deed (set, create, drop), the value, or nothing if a
--       later one of the same name has it, = and the text that the value must have before, or nothing, and the
--       name that no session may have, or nothing
-- Returns done. Atomic, because the order of values must be that of messages. A write that was already taken,
-- and whose answer was lost, must not overwrite later ones. A write to a variable that does not exist is left
-- out, and the nodes that receive it do the same.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if not take() then return done() end
local most, count = tonumber(ARGV[9]), redis.call('HLEN', variables)
-- For each name: whether the variable existed before all writes, whether it exists by now, and its new value.
local was, is, values = {}, {}, {}
-- Returns the text of the current value of a name. A number has a quotation mark before it.
local function text(name)
  local value = values[name] or (is[name] and redis.call('HGET', variables, name)) or ''
  return string.sub(value, 1, 1) == '"' and string.sub(value, 2) or value
end
-- The numbers of the writes that are left out because a session has a name.
local left = {}
for at = 10, #ARGV, 5 do
  local name, deed, was_text, unless = ARGV[at], ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  local is_in_use = unless ~= '' and
    (redis.call('HEXISTS', names, '+' .. unless) == 1 or redis.call('HEXISTS', names, '-' .. unless) == 1)
  if is[name] == nil then
    was[name] = redis.call('HEXISTS', variables, name) == 1
    is[name] = was[name]
  end
  if is_in_use then
    left[#left + 1] = tonumber(ARGV[5]) + (at - 10) / 5
  elseif deed == 'drop' then
    if is[name] then count = count - 1 end
    is[name], values[name] = false, nil
  elseif was_text ~= '' and '=' .. text(name) ~= was_text then
    -- Another write was first.
  elseif is[name] or (deed == 'create' and count < most) then
    if not is[name] then count = count + 1 end
    is[name], values[name] = true, ARGV[at + 2]
  end
end
local new = {}
for at = 10, #ARGV, 5 do
  local name = ARGV[at]
  if is[name] and values[name] then
    new[#new + 1] = name
    new[#new + 1] = values[name]
    if not was[name] then create(name) end
  elseif was[name] and not is[name] then
    redis.call('HDEL', variables, name)
    redis.call('ZREM', order, name)
  end
  -- Once for each name, in the order of the first write.
  is[name], was[name] = nil, nil
end
set(new, 1)
local left_out = ',"left":[' .. table.concat(left, ',') .. ']'
publish(next_revision() .. ',"first":' .. ARGV[5] .. ',"most":' .. ARGV[9] .. left_out ..
  ',"writes":' .. ARGV[8] .. '}')
return done()
