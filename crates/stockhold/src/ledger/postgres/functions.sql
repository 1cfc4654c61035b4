-- What a batch reads and writes, as functions: Postgres keeps the plan of a function's statement for
-- as long as a connection lives, also behind a pooler that gives each transaction another one. A
-- statement that is sent is planned each time, and a batch of one hold would take longer to plan than
-- to write.
--
-- They decide nothing: each writes the rows that it is given, and says how many.

-- Time-outs, and the plans that suit a batch: every statement names its rows by an index, a thousand
-- of them at most. Of a table that grew since it was last analysed, the planner may think otherwise,
-- and read the whole of it.
CREATE FUNCTION begin_batch() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '400ms', true),
            set_config('statement_timeout', '2s', true),
            set_config('idle_in_transaction_session_timeout', '2s', true),
            set_config('plan_cache_mode', 'force_generic_plan', true),
            set_config('enable_seqscan', 'off', true),
            set_config('enable_bitmapscan', 'off', true),
            set_config('enable_hashjoin', 'off', true),
            set_config('enable_mergejoin', 'off', true),
            set_config('jit', 'off', true);
END $$;

-- Stock rows by their numbers and by their names, locked in the order of their numbers. The time-out that the
-- caller has set for it ends with it.
CREATE FUNCTION lock_stock(bigint[], text[], text[]) RETURNS SETOF stock LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality($2) = 0 THEN
        RETURN QUERY SELECT * FROM stock WHERE item = ANY ($1) ORDER BY item FOR NO KEY UPDATE;
    ELSE
        RETURN QUERY SELECT * FROM stock WHERE item IN (
            SELECT unnest($1) UNION
            SELECT named.item FROM unnest($2, $3) AS name (sku, location)
            JOIN stock AS named ON named.sku = name.sku AND named.location = name.location)
        ORDER BY item FOR NO KEY UPDATE;
    END IF;
    PERFORM set_config('statement_timeout', '2s', true);
END $$;

CREATE FUNCTION write_stock(bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[],
    bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    UPDATE stock SET on_hand = new.on_hand, held = new.held, allocated = new.allocated,
        lent = new.lent, safety_stock = new.safety_stock, version = new.version,
        touched_at = new.touched_at
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS new (item, on_hand, held, allocated, lent,
        safety_stock, version, touched_at)
    WHERE stock.item = new.item AND stock.version < new.version;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

-- The lines of all holds lie one behind the other; $10 and $11 say where those of each are.
CREATE FUNCTION write_holds(uuid[], text[], text[], bigint[], bigint[], bigint[], uuid[], bigint[],
    bigint[], integer[], integer[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO hold SELECT new.id, new.owner, new.reference, new.created_at, new.deadline,
        new.max_deadline, new.replaced_by, ($8)[new.first:new.last], ($9)[new.first:new.last]
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $10, $11) AS new (id, owner, reference, created_at,
        deadline, max_deadline, replaced_by, first, last);
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE FUNCTION edit_holds(uuid[], bigint[], uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    UPDATE hold SET deadline = new.deadline, replaced_by = new.replaced_by
    FROM unnest($1, $2, $3) AS new (id, deadline, replaced_by) WHERE hold.id = new.id;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE FUNCTION write_transitions(uuid[], integer[], text[], bigint[], text[], text[], bigint[],
    bigint[], integer[], integer[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO transition SELECT new.hold, new.n, new.step, new.at, new.reference, new.reason,
        CASE WHEN new.first <= new.last THEN ($7)[new.first:new.last] END,
        CASE WHEN new.first <= new.last THEN ($8)[new.first:new.last] END
    FROM unnest($1, $2, $3, $4, $5, $6, $9, $10)
        AS new (hold, n, step, at, reference, reason, first, last);
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE FUNCTION remove_active(bigint[], bigint[], uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    DELETE FROM active USING unnest($1, $2, $3) AS dead (item, deadline, hold)
    WHERE active.item = dead.item AND active.deadline = dead.deadline AND active.hold = dead.hold;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE FUNCTION write_active(bigint[], bigint[], uuid[], integer[], integer) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO active SELECT new.item, new.deadline, new.hold, new.line, $5
    FROM unnest($1, $2, $3, $4) AS new (item, deadline, hold, line);
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

-- Counts on, in the row that was locked for it, what is inserted.
CREATE FUNCTION write_movements(bigint[], bigint[], text[], bigint[], bigint[], text[], text[],
    bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    UPDATE counter SET last_movement = (SELECT max(id) FROM unnest($1) AS new (id));
    INSERT INTO movement SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8);
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE FUNCTION write_keys(uuid[], uuid[], uuid[], bigint[], bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO idempotency SELECT new.key, new.digest, new.hold, new.movement, $5
    FROM unnest($1, $2, $3, $4) AS new (key, digest, hold, movement);
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE FUNCTION note_batch(uuid, bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO batch (id, at) VALUES ($1, $2);
    RETURN 1;
END $$;
