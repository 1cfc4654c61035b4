-- Locks: who grants them, and those that the database has granted itself.

-- Who grants. Only ever replaced by whoever knows the epoch that was.
CREATE TABLE lock_rule (
    one             boolean     PRIMARY KEY DEFAULT true CHECK (one),
    grantor         text        NOT NULL CHECK (grantor IN ('nobody', 'database', 'redis')),
    epoch           bigint      NOT NULL,
    server          text        NOT NULL,   -- which Redis, by its replication id
    is_open         boolean     NOT NULL,   -- whether it grants yet
    changed_at      timestamptz NOT NULL,
    ghosts_ms       bigint      NOT NULL,   -- how long leases of Redis may live on from when it grants
    strict_from     timestamptz NOT NULL,   -- no lease of an earlier epoch is alive any more, but for those
    redis_seen_at   timestamptz,            -- when an instance last found Redis well
    last_number     bigint      NOT NULL    -- no lease that was removed has a higher one
) WITH (fillfactor = 50);

INSERT INTO lock_rule VALUES (true, 'nobody', 0, '', true, '-infinity', 0, '-infinity', NULL, 0);

-- A row with an expiry, not an advisory lock: those have no end of their own, live on in the sessions of
-- a pooler, and are free at once when a connection breaks, while their holder works on.
CREATE TABLE lease (
    name            text        PRIMARY KEY COLLATE "C",
    token           text        NOT NULL,
    epoch           bigint      NOT NULL,
    number          bigint      NOT NULL,
    since           timestamptz NOT NULL,
    until           timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The rule. Notes that Redis is well, if it is, and if nobody has just now.
CREATE FUNCTION read_lock_rule(
    sees_redis boolean,
    OUT grantor text, OUT epoch bigint, OUT server text, OUT is_open boolean,
    OUT age_ms bigint, OUT strict_in_ms bigint
) LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
#variable_conflict use_column
BEGIN
    IF sees_redis THEN
        UPDATE lock_rule SET redis_seen_at = clock_timestamp()
        WHERE grantor = 'redis'
            AND (redis_seen_at IS NULL OR redis_seen_at < clock_timestamp() - interval '500 ms');
    END IF;
    SELECT grantor, epoch, server, is_open, milliseconds_since(changed_at),
            -milliseconds_since(strict_from)
        INTO grantor, epoch, server, is_open, age_ms, strict_in_ms FROM lock_rule;
END $$;

CREATE FUNCTION milliseconds_since(at timestamptz) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN isfinite(at)
        THEN ceil(extract(epoch FROM clock_timestamp() - at) * 1000)::bigint
        ELSE 1000000000000 END
$$;

-- Whatever this transaction has written is synced before anybody is told, whoever the role belongs to.
CREATE FUNCTION be_durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

-- Replaces the rule, if the epoch is still this one; answers the new one, or nothing. Nobody grants by the new one before it is
-- opened: until this is committed, and a standby may keep that waiting for long, others still go by the old one. Epochs
-- begin with the seconds of the clock, so that they go on rising where a shop has moved to another database, or to one
-- restored from a backup.
CREATE FUNCTION replace_lock_rule(
    old bigint, next_grantor text, next_server text, ghosts bigint, unseen_ms bigint
) RETURNS bigint LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    rule lock_rule;
    next_epoch bigint;
BEGIN
    -- Whoever grants here meanwhile ends first.
    SELECT * INTO rule FROM lock_rule FOR UPDATE;
    IF rule.epoch <> old OR unseen_ms IS NOT NULL AND rule.redis_seen_at IS NOT NULL
        AND rule.redis_seen_at > clock_timestamp() - unseen_ms * interval '1 ms' THEN
        RETURN NULL;
    END IF;
    PERFORM be_durable();
    next_epoch := greatest(rule.epoch + 1, extract(epoch FROM clock_timestamp())::bigint);
    UPDATE lock_rule SET
        grantor = next_grantor,
        epoch = next_epoch,
        server = next_server,
        is_open = false,
        changed_at = clock_timestamp(),
        -- Before it was opened, it has granted nothing.
        ghosts_ms = CASE WHEN NOT rule.is_open THEN rule.ghosts_ms
            WHEN rule.grantor = 'redis' THEN ghosts ELSE 0 END,
        -- The leases of the database are known.
        strict_from = greatest(rule.strict_from, (SELECT max(until) FROM lease)),
        -- Whoever makes Redis grant has just seen it.
        redis_seen_at = CASE WHEN next_grantor = 'redis' THEN clock_timestamp() END;
    RETURN next_epoch;
END $$;

-- From now on whoever the rule of this epoch names grants. The rule is committed, since it was read; so nobody goes by
-- the one before for longer than what was read counts.
CREATE FUNCTION open_lock_rule(its_epoch bigint) RETURNS void LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
BEGIN
    UPDATE lock_rule SET
        is_open = true,
        strict_from = CASE WHEN ghosts_ms = 0 THEN strict_from
            ELSE greatest(strict_from, clock_timestamp() + ghosts_ms * interval '1 ms') END
    WHERE epoch = its_epoch AND NOT is_open;
    PERFORM be_durable();
END $$;

-- Grants a lease, if nobody has one: 'granted' with its number, or 'busy', both with for how long; or 'epoch' if
-- the database does not grant, or in another one.
CREATE FUNCTION acquire_lease(
    wanted text, attempt text, ttl_ms bigint, its_epoch bigint, is_strict boolean,
    OUT told text, OUT fence_epoch bigint, OUT fence_number bigint, OUT left_ms bigint
) LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    rule lock_rule;
    held lease;
    now timestamptz;
BEGIN
    -- Most who wait are told so without a lock and without a commit: a lock that many want would be held by those who do
    -- not get it.
    SELECT * INTO held FROM lease WHERE name = wanted AND until > clock_timestamp() AND token <> attempt;
    IF FOUND THEN
        SELECT * INTO rule FROM lock_rule;
        told := CASE WHEN rule.grantor = 'database' AND rule.is_open AND rule.epoch = its_epoch
            THEN 'busy' ELSE 'epoch' END;
        left_ms := -milliseconds_since(held.until);
        RETURN;
    END IF;
    SELECT * INTO rule FROM lock_rule FOR SHARE;
    IF rule.grantor <> 'database' OR NOT rule.is_open OR rule.epoch <> its_epoch THEN
        told := 'epoch';
        RETURN;
    END IF;
    PERFORM be_durable();
    LOOP
        INSERT INTO lease VALUES (wanted, '', 0, 0, '-infinity', '-infinity') ON CONFLICT DO NOTHING;
        SELECT * INTO held FROM lease WHERE name = wanted FOR UPDATE;
        -- An old one may have been removed in between.
        EXIT WHEN FOUND;
    END LOOP;
    now := clock_timestamp();
    IF held.until > now AND held.token = attempt THEN
        told := 'granted';
        fence_epoch := held.epoch;
        fence_number := held.number;
        left_ms := -milliseconds_since(held.until);
    ELSIF held.until > now OR is_strict AND rule.strict_from > now THEN
        told := 'busy';
        left_ms := -milliseconds_since(CASE WHEN held.until > now THEN held.until ELSE rule.strict_from END);
    ELSE
        told := 'granted';
        fence_epoch := rule.epoch;
        fence_number := greatest(held.number + 1, rule.last_number + 1,
            (extract(epoch FROM now) * 1000000)::bigint);
        UPDATE lease SET token = attempt, epoch = fence_epoch, number = fence_number, since = now,
            until = now + ttl_ms * interval '1 ms' WHERE name = wanted;
        left_ms := ttl_ms;
    END IF;
END $$;

-- 'renewed', 'lost', or 'epoch'.
CREATE FUNCTION renew_lease(wanted text, attempt text, ttl_ms bigint, its_epoch bigint) RETURNS text
    LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
BEGIN
    PERFORM FROM lock_rule WHERE grantor = 'database' AND is_open AND epoch = its_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN 'epoch';
    END IF;
    PERFORM be_durable();
    UPDATE lease SET until = clock_timestamp() + ttl_ms * interval '1 ms'
    WHERE name = wanted AND token = attempt AND epoch = its_epoch AND until > clock_timestamp();
    RETURN CASE WHEN FOUND THEN 'renewed' ELSE 'lost' END;
END $$;

-- 'clean', 'expired', or 'superseded'. The row stays for a while: it knows the last number.
CREATE FUNCTION release_lease(wanted text, attempt text) RETURNS text
    LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    held lease;
BEGIN
    SELECT * INTO held FROM lease WHERE name = wanted FOR UPDATE;
    IF NOT FOUND OR held.until <= clock_timestamp() AND held.token = attempt THEN
        RETURN 'expired';
    ELSIF held.token <> attempt THEN
        RETURN 'superseded';
    END IF;
    PERFORM be_durable();
    UPDATE lease SET until = '-infinity' WHERE name = wanted;
    RETURN 'clean';
END $$;

-- Removes leases that have been over for a day, a hundred at a time; says whether there may be more.
CREATE FUNCTION forget_leases() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    highest bigint;
    removed bigint;
BEGIN
    -- First, as whoever is granted a lease does.
    PERFORM FROM lock_rule FOR UPDATE;
    WITH gone AS (
        DELETE FROM lease WHERE name IN (
            SELECT name FROM lease WHERE since < clock_timestamp() - interval '1 day'
                AND until < clock_timestamp() - interval '1 day'
            LIMIT 100 FOR UPDATE SKIP LOCKED)
        RETURNING number)
    SELECT max(number), count(*) INTO highest, removed FROM gone;
    IF highest IS NOT NULL THEN
        UPDATE lock_rule SET last_number = greatest(last_number, highest);
    END IF;
    RETURN removed = 100;
END $$;
