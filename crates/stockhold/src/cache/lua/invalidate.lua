-- Takes a value away, and with it the right of whoever was about to fill another one in.
--
-- KEYS[1]  the mark of the entry's bucket
-- KEYS[2]  the entry
-- KEYS[3]  the lease
-- ARGV[1]  a random mark, 16 characters, for a bucket that has none
-- ARGV[2]  the version below which nothing is to be filled in, 20 digits
-- ARGV[3]  for how many milliseconds that is remembered
-- ARGV[4]  'always'; or 'known': the floor need not be remembered
--
-- Returns the floor that holds now: this one, or a higher one that was known.

if ARGV[4] == 'known' then
  redis.call('DEL', KEYS[2], KEYS[3])
  return ARGV[2]
end
local mark = redis.call('GET', KEYS[1])
if not mark then
  -- Without memory for it, nothing counts anyway.
  mark = ARGV[1]
  redis.pcall('SET', KEYS[1], mark, 'PX', 86400000)
end

local floor = ARGV[2]
local entry = redis.call('GET', KEYS[2])
if entry and string.sub(entry, 3, 18) == mark and string.sub(entry, 20, 39) > floor then
  floor = string.sub(entry, 20, 39)
end
-- Without memory for it, it is still taken away.
local kept = redis.pcall('SET', KEYS[2], 'T|' .. mark .. '|' .. floor, 'PX', ARGV[3])
if kept.err then
  redis.call('DEL', KEYS[2])
end
redis.call('DEL', KEYS[3])
return floor
