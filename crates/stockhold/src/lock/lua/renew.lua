-- Lets a lease live on for its whole time from now. One that is over is not made again.
--
-- KEYS[1]  the lease
-- KEYS[2]  the rule of the bucket
-- ARGV[1]  the holder's token
-- ARGV[2]  for how many milliseconds
-- ARGV[3]  the epoch of whoever asks
--
-- Returns
--   'renewed'
--   'lost'      it is over, or somebody else's, or of an earlier epoch
--   'epoch'     this is another epoch, or everything is forgotten

local epoch = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) %d+$')
if epoch ~= ARGV[3] then
  return 'epoch'
end
local its_epoch, token = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) %d+ %d+ (.+)$')
if its_epoch ~= epoch or token ~= ARGV[1] then
  return 'lost'
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'renewed'
