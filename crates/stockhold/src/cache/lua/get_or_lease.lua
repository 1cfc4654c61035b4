-- Reads an entry; where there is no value, gives out the right to fill it.
--
-- KEYS[1]  the mark of the entry's bucket: what has another mark does not count
-- KEYS[2]  the entry: V|mark|version|value, or T|mark|floor, the memory of an invalidation
-- KEYS[3]  the lease: mark|token. It is not tracked, so that nobody is told of it
-- ARGV[1]  a random mark, 16 characters, for a bucket that has none
-- ARGV[2]  the reader's token, 32 characters
-- ARGV[3]  for how many milliseconds the right is given
--
-- Returns
--   {'V', version, milliseconds it lives on, value}   it is there
--   {'L', floor}           the reader may fill it, with a version of at least floor
--   {'W', milliseconds}    somebody else may, for so long

local mark = redis.call('GET', KEYS[1])
if not mark then
  mark = ARGV[1]
  redis.call('SET', KEYS[1], mark, 'PX', 86400000)
end

local floor = '00000000000000000000'
local entry = redis.call('GET', KEYS[2])
if entry and string.sub(entry, 3, 18) == mark then
  floor = string.sub(entry, 20, 39)
  if string.sub(entry, 1, 1) == 'V' then
    return {'V', floor, redis.call('PTTL', KEYS[2]), string.sub(entry, 41)}
  end
end

local mine = mark .. '|' .. ARGV[2]
local lease = redis.call('GET', KEYS[3])
if lease and lease ~= mine and string.sub(lease, 1, 16) == mark then
  return {'W', redis.call('PTTL', KEYS[3])}
end
redis.call('SET', KEYS[3], mine, 'PX', ARGV[3])
return {'L', floor}
