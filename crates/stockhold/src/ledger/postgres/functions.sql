-- What a batch reads and writes, as functions: Postgres keeps the plan of a function's statement for
-- as long as a connection lives, also behind a pooler that gives each transaction another one. A
-- statement that is sent is planned each time, and a batch of one hold would take longer to plan than
-- to write.
--
-- They decide nothing: each writes the rows that it is given, all of them or nothing.

-- How far ahead of the server's clock ledger time is: nowhere, but in tests, which put another one in
-- its place.
CREATE FUNCTION test_ahead() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 0::bigint';

-- Time-outs, and the plans that suit a batch: every statement names its rows by an index, a thousand
-- of them at most. Of a table that grew since it was last analysed, the planner may think otherwise,
-- and read the whole of it.
CREATE FUNCTION begin_batch(lock_timeout text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', $1, true),
            set_config('statement_timeout', '2s', true),
            set_config('idle_in_transaction_session_timeout', '2s', true),
            set_config('plan_cache_mode', 'force_generic_plan', true),
            set_config('enable_seqscan', 'off', true),
            set_config('enable_bitmapscan', 'off', true),
            set_config('enable_hashjoin', 'off', true),
            set_config('enable_mergejoin', 'off', true),
            set_config('jit', 'off', true);
END $$;

-- Those of these keys that are there.
CREATE FUNCTION find_keys(
    keys uuid[], OUT key uuid[], OUT digest uuid[], OUT hold uuid[], OUT movement bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    SELECT array_agg(key), array_agg(digest), array_agg(hold), array_agg(movement)
        INTO key, digest, hold, movement FROM idempotency WHERE key = ANY (keys);
END $$;

-- The first statement of a batch. Locks its stock rows, in the order of their numbers, and the counter
-- of movements if it counts any; and reads, behind the locks, what time it is, and which of its keys are
-- there. All locks together have the time-out of this statement, which the caller has set; those that
-- are set here are for what follows.
CREATE FUNCTION open_batch(
    numbers bigint[], skus text[], locations text[], keys uuid[], moves boolean, lock_timeout text,
    OUT server_now bigint, OUT alive_at bigint, OUT graces bigint[], OUT sealed text,
    OUT ahead bigint, OUT synchronous_commit text, OUT last_movement bigint,
    OUT item bigint[], OUT sku text[], OUT location text[], OUT on_hand bigint[],
    OUT held bigint[], OUT allocated bigint[], OUT lent bigint[], OUT safety_stock bigint[],
    OUT version bigint[], OUT touched_at bigint[],
    OUT key uuid[], OUT digest uuid[], OUT hold uuid[], OUT movement bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM begin_batch(lock_timeout);
    IF cardinality(skus) > 0 THEN
        numbers := numbers || ARRAY(
            SELECT stock.item FROM (SELECT unnest(skus) AS sku, unnest(locations) AS location) AS name
            JOIN stock ON stock.sku = name.sku AND stock.location = name.location);
    END IF;
    SELECT array_agg(item), array_agg(sku), array_agg(location), array_agg(on_hand),
            array_agg(held), array_agg(allocated), array_agg(lent), array_agg(safety_stock),
            array_agg(version), array_agg(touched_at)
        INTO item, sku, location, on_hand, held, allocated, lent, safety_stock, version, touched_at
        FROM (SELECT * FROM stock WHERE item = ANY (numbers) ORDER BY item FOR NO KEY UPDATE) AS locked;
    IF moves THEN
        SELECT last_movement INTO last_movement FROM counter FOR NO KEY UPDATE;
    END IF;
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, alive_at, graces, sealed,
            test_ahead(), current_setting('synchronous_commit')
        INTO server_now, alive_at, graces, sealed, ahead, synchronous_commit FROM ledger;
    IF cardinality(keys) > 0 THEN
        -- As find_keys does: to call it would take a lone hold a tenth longer.
        SELECT array_agg(key), array_agg(digest), array_agg(hold), array_agg(movement)
            INTO key, digest, hold, movement FROM idempotency WHERE key = ANY (keys);
    END IF;
END $$;

-- Spoils the batch, whose COMMIT is on its way already: what was to be written was not there.
CREATE FUNCTION miscounted(what text, written bigint, wanted integer) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows of % were written instead of %', written, what, wanted
        USING ERRCODE = 'SH001', TABLE = what;
END $$;

-- In all that write, arrays are the columns of a table. They are unnested side by side in a list of
-- results: in FROM, each would be put away in a store of its own first.

CREATE FUNCTION write_stock(bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[],
    bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    UPDATE stock SET on_hand = new.on_hand, held = new.held, allocated = new.allocated,
        lent = new.lent, safety_stock = new.safety_stock, version = new.version,
        touched_at = new.touched_at
    FROM (SELECT unnest($1) AS item, unnest($2) AS on_hand, unnest($3) AS held,
        unnest($4) AS allocated, unnest($5) AS lent, unnest($6) AS safety_stock,
        unnest($7) AS version, unnest($8) AS touched_at) AS new
    WHERE stock.item = new.item AND stock.version < new.version;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('stock', written, cardinality($1));
    END IF;
END $$;

-- The lines of all holds lie one behind the other; $10 and $11 say where those of each are.
CREATE FUNCTION write_holds(uuid[], text[], text[], bigint[], bigint[], bigint[], uuid[], bigint[],
    bigint[], integer[], integer[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO hold SELECT id, owner, reference, created_at, deadline, max_deadline, replaced_by,
        ($8)[first:last], ($9)[first:last]
    FROM (SELECT unnest($1) AS id, unnest($2) AS owner, unnest($3) AS reference,
        unnest($4) AS created_at, unnest($5) AS deadline, unnest($6) AS max_deadline,
        unnest($7) AS replaced_by, unnest($10) AS first, unnest($11) AS last) AS new;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('hold', written, cardinality($1));
    END IF;
END $$;

CREATE FUNCTION edit_holds(uuid[], bigint[], uuid[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    UPDATE hold SET deadline = new.deadline, replaced_by = new.replaced_by
    FROM (SELECT unnest($1) AS id, unnest($2) AS deadline, unnest($3) AS replaced_by) AS new
    WHERE hold.id = new.id;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('hold', written, cardinality($1));
    END IF;
END $$;

CREATE FUNCTION write_transitions(uuid[], integer[], text[], bigint[], text[], text[], bigint[],
    bigint[], integer[], integer[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO transition SELECT hold, n, step, at, reference, reason,
        CASE WHEN first <= last THEN ($7)[first:last] END,
        CASE WHEN first <= last THEN ($8)[first:last] END
    FROM (SELECT unnest($1) AS hold, unnest($2) AS n, unnest($3) AS step, unnest($4) AS at,
        unnest($5) AS reference, unnest($6) AS reason, unnest($9) AS first,
        unnest($10) AS last) AS new;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('transition', written, cardinality($1));
    END IF;
END $$;

CREATE FUNCTION remove_active(bigint[], bigint[], uuid[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    DELETE FROM active
    USING (SELECT unnest($1) AS item, unnest($2) AS deadline, unnest($3) AS hold) AS dead
    WHERE active.item = dead.item AND active.deadline = dead.deadline AND active.hold = dead.hold;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('active', written, cardinality($1));
    END IF;
END $$;

CREATE FUNCTION write_active(bigint[], bigint[], uuid[], integer[], integer) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO active SELECT unnest($1), unnest($2), unnest($3), unnest($4), $5;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('active', written, cardinality($1));
    END IF;
END $$;

-- Counts on, in the row that was locked for it, what is inserted.
CREATE FUNCTION write_movements(bigint[], bigint[], text[], bigint[], bigint[], text[], text[],
    bigint[]) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    UPDATE counter SET last_movement = (SELECT max(id) FROM unnest($1) AS new (id));
    INSERT INTO movement SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5),
        unnest($6), unnest($7), unnest($8);
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('movement', written, cardinality($1));
    END IF;
END $$;

CREATE FUNCTION write_keys(uuid[], uuid[], uuid[], bigint[], bigint) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE written bigint;
BEGIN
    INSERT INTO idempotency SELECT unnest($1), unnest($2), unnest($3), unnest($4), $5;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality($1) THEN
        PERFORM miscounted('idempotency', written, cardinality($1));
    END IF;
END $$;

CREATE FUNCTION note_batch(uuid, bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO batch (id, at) VALUES ($1, $2);
END $$;
