-- Ends a lease, in whichever epoch it was granted, and says so to whoever waits.
--
-- KEYS[1]  the lease
-- ARGV[1]  the holder's token
-- ARGV[2]  the channel on which that is said
-- ARGV[3]  the name of the lock
--
-- Returns
--   'clean'        it was the holder's until now
--   'expired'      there is none
--   'superseded'   it is somebody else's

local lease = redis.call('GET', KEYS[1])
if not lease then
  return 'expired'
end
if string.match(lease, '^%d+ %d+ %d+ (.+)$') ~= ARGV[1] then
  return 'superseded'
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 'clean'
