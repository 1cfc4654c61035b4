-- Writes a batch of the ledger by itself: so many places, and the end of all that is due.
--
-- What the rows say is made up here, so that no client works beside the server. The tables and
-- their indexes are the ledger's own. `after` is what the last call answered as `upto`.
CREATE SCHEMA IF NOT EXISTS stockhold_bench;

CREATE FUNCTION stockhold_bench.batch(
    number bigint, places integer, ttl bigint, lifetime bigint, first bigint, items bigint,
    after bigint, OUT upto bigint, OUT ended bigint
) LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    chosen bigint[];
    dead uuid[];
    of_dead bigint[];
BEGIN
    upto := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

    -- Numbers that rise, as those of the ledger do.
    SELECT array_agg((lpad(to_hex(upto), 12, '0') || lpad(to_hex(number), 12, '0')
                || lpad(to_hex(n), 8, '0'))::uuid ORDER BY n),
            array_agg(first + floor(random() * items)::bigint)
        INTO ids, chosen FROM generate_series(1, places) AS n;

    WITH gone AS (
        DELETE FROM active WHERE line = 0 AND deadline > after AND deadline <= upto
        RETURNING hold, item)
    SELECT array_agg(hold ORDER BY hold), array_agg(item) INTO dead, of_dead FROM gone;
    ended := coalesce(cardinality(dead), 0);
    IF ids IS NULL AND dead IS NULL THEN
        RETURN;
    END IF;

    UPDATE stock SET held = stock.held + change.units, version = stock.version + change.times,
            touched_at = upto
        FROM (SELECT item, sum(units) AS units, count(*) AS times
            FROM (SELECT unnest(chosen) AS item, 1 AS units
                UNION ALL SELECT unnest(of_dead), -1) AS each
            GROUP BY item ORDER BY item) AS change
        WHERE stock.item = change.item;
    INSERT INTO hold (id, owner, created_at, deadline, max_deadline, items, units)
        SELECT new.id, 'cart_' || lpad(to_hex((random() * 9e18)::bigint), 16, '0'),
            upto, upto + ttl, upto + greatest(ttl, lifetime), ARRAY[new.item], ARRAY[1::bigint]
        FROM unnest(ids, chosen) AS new (id, item);
    INSERT INTO transition (hold, n, step, at) SELECT unnest(dead), 1, 'expire', upto;
    INSERT INTO active (item, deadline, hold, line, instance)
        SELECT new.item, upto + ttl, new.id, 0, 0 FROM unnest(ids, chosen) AS new (id, item);
    INSERT INTO idempotency (key, digest, hold, at)
        SELECT new.key, gen_random_uuid(), new.id, upto
        FROM (SELECT gen_random_uuid() AS key, unnest(ids) AS id) AS new ORDER BY new.key;
    INSERT INTO batch (id, at) VALUES (gen_random_uuid(), upto);
    UPDATE ledger SET alive_at = upto WHERE alive_at < upto - 500;
END $$;
