-- Writes a value, if nothing that was said meanwhile speaks against it.
--
-- KEYS[1]  the mark of the entry's bucket
-- KEYS[2]  the entry
-- KEYS[3]  the lease
-- ARGV[1]  the token to which the right was given; empty: whoever has changed the source
-- ARGV[2]  the version, 20 digits
-- ARGV[3]  the value
-- ARGV[4]  for how many milliseconds it is kept
--
-- Returns
--   'filled'
--   'gone'      it was invalidated since; or, without a token, there is nothing to replace
--   'foreign'   the right is somebody else's by now
--   'below'     newer versions are known

local mark = redis.call('GET', KEYS[1])
if not mark then
  return 'gone'
end

local entry = redis.call('GET', KEYS[2])
local known = entry and string.sub(entry, 3, 18) == mark
local lease = redis.call('GET', KEYS[3])
local leased = lease and string.sub(lease, 1, 16) == mark
if ARGV[1] == '' then
  -- Beside a mere lease nobody knows what is older: its holder fills it in.
  if not known then
    return 'gone'
  end
else
  if not leased then
    return 'gone'
  end
  if string.sub(lease, 18) ~= ARGV[1] then
    return 'foreign'
  end
end
if known and ARGV[2] < string.sub(entry, 20, 39) then
  return 'below'
end

redis.call('SET', KEYS[2], 'V|' .. mark .. '|' .. ARGV[2] .. '|' .. ARGV[3], 'PX', ARGV[4])
redis.call('DEL', KEYS[3])
return 'filled'
