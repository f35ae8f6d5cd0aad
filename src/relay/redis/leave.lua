-- Sessions end.
-- ARGV  8... their numbers
-- Returns done. Atomic, because a name is free as soon as the last session that has it ends.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
if take() then
  for at = 8, #ARGV do leave(node .. '/' .. ARGV[at]) end
end
return done()
