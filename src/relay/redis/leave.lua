-- Sessions are over.
-- ARGV  4... their numbers
-- Returns done. Atomic, as a name is free with the last session that has it.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
for at = 4, #ARGV do leave(node .. '/' .. ARGV[at]) end
return done()
