-- Begins an epoch in a bucket.
--
-- Whoever has made the epoch sends this once, and never again: sent twice, with all data lost in between, it
-- would hide that.
--
-- KEYS[1]  the rule of the bucket: epoch, and the number of the last grant
-- ARGV[1]  the epoch
--
-- Returns
--   'open'    from now on this bucket grants in this epoch
--   'later'   it has this one or a later one already

local epoch = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) %d+$')
if epoch and tonumber(epoch) >= tonumber(ARGV[1]) then
  return 'later'
end
redis.call('SET', KEYS[1], ARGV[1] .. ' 0')
return 'open'
