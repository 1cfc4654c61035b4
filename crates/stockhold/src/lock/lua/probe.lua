-- Says whether a lease could be granted: does what a grant does, to a key that nobody reads and that is gone at once.
--
-- It must be a script: a server may answer, and take no scripts or no writes.
--
-- KEYS[1]  a key of its own
--
-- Returns
--   'well'

redis.call('SET', KEYS[1], '', 'PX', 1)
return 'well'
