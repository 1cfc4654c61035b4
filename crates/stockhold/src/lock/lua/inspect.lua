-- Looks at a lease.
--
-- KEYS[1]  the lease
-- KEYS[2]  the rule of the bucket
-- ARGV[1]  the epoch of whoever asks
--
-- Returns
--   {epoch, number, since when (ms), for how many milliseconds}
--   {}   there is none, or one that counts no more

local epoch = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) %d+$')
local its_epoch, number, since =
  string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) (%d+) .+$')
if not its_epoch or its_epoch ~= epoch or epoch ~= ARGV[1] then
  return {}
end
return {its_epoch, number, since, redis.call('PTTL', KEYS[1])}
