-- Grants a lease, if nobody has one.
--
-- It must be a script: between looking whether there is one and granting it nobody may be granted another, and
-- the number of the grant has to be taken in the same moment.
--
-- KEYS[1]  the lease: epoch, number, since when (ms), token
-- KEYS[2]  the rule of the bucket: epoch, and the number of the last grant
-- ARGV[1]  the token of this attempt
-- ARGV[2]  for how many milliseconds
-- ARGV[3]  the epoch of whoever asks
--
-- Returns
--   {'granted', number, milliseconds}   it is the caller's, for so long, as a text; also if the same attempt
--                                       was granted it before, then as an integer
--   {'busy', milliseconds}              somebody has it, for so long
--   {'epoch'}                           this is another epoch, or everything is forgotten

local epoch, last = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) (%d+)$')
if epoch ~= ARGV[3] then
  return {'epoch'}
end

local lease = redis.call('GET', KEYS[1])
if lease then
  local its_epoch, number, token = string.match(lease, '^(%d+) (%d+) %d+ (.+)$')
  -- One of an earlier epoch is not remembered.
  if its_epoch == epoch then
    if token == ARGV[1] then
      return {'granted', number, redis.call('PTTL', KEYS[1])}
    end
    return {'busy', redis.call('PTTL', KEYS[1])}
  end
end

local time = redis.call('TIME')
local micros = string.sub('00000' .. time[2], -6)
local number = time[1] .. micros
if tonumber(last) >= tonumber(number) then
  -- Also while the clock stands behind, numbers rise.
  number = string.format('%.0f', last + 1)
end
local since = time[1] .. string.sub(micros, 1, 3)
local grant = epoch .. ' ' .. number
redis.call('SET', KEYS[2], grant)
redis.call('SET', KEYS[1], grant .. ' ' .. since .. ' ' .. ARGV[1], 'PX', ARGV[2])
return {'granted', number, ARGV[2]}
