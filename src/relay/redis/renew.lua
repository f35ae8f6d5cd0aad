-- Renews the node's lease.
-- Returns done. Atomic, because a node that is out must not get a lease again.
if not is_there then return {'nowhere'} end
if not is_in then return {'fenced'} end
renew()
return done()
