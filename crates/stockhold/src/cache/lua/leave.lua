-- Gives the right to fill an entry back, so that nobody waits for who does not.
--
-- KEYS[1]  the lease
-- ARGV[1]  the token to which the right was given
--
-- Returns 1 if it was given back, 0 if it was somebody else's or nobody's.

local lease = redis.call('GET', KEYS[1])
if lease and string.sub(lease, 18) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
