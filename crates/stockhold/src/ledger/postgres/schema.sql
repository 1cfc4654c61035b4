-- The ledger that many instances share.
--
-- What a hold asks for never changes; what happens to it is a list of transitions. So a place is
-- three appended rows (hold, active, idempotency), and the end of a hold is one more and one that
-- goes. Stock rows are the only rows that are locked: whoever changes a hold holds every stock row
-- that the hold names.
--
-- There are no foreign keys: each costs a query for every row that is written, and a lock on the
-- row that is named. What they would find, `stockhold verify` finds.

-- The ledger's own row.
CREATE TABLE ledger (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    alive_at        bigint  NOT NULL,               -- ms since 1970: when it last gave a sign of life (R17)
    graces          bigint[] NOT NULL DEFAULT '{}', -- outages that may still spare a hold: from, to, until of each
    id              uuid    NOT NULL DEFAULT gen_random_uuid(), -- made with the ledger: a move knows both ends by theirs
    sealed          text,                           -- why nothing is written here any more, or not yet: the shop moves
    moves_to        uuid,                           -- the id of the ledger that it moves to,
    has_moved       boolean NOT NULL DEFAULT false  -- and whether all of it is there
) WITH (fillfactor = 50);

-- The number of the last movement. Locked until the commit, so that movements are numbered in the
-- order of their commits, and nobody who reads them misses one.
CREATE TABLE counter (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    last_movement   bigint  NOT NULL CHECK (last_movement >= 0)
) WITH (fillfactor = 50);

INSERT INTO ledger (alive_at) VALUES (0);
INSERT INTO counter (last_movement) VALUES (0);

-- The batches that changed anything, by numbers that were chosen before (R15). Old ones are removed.
CREATE TABLE batch (
    id              uuid    PRIMARY KEY,
    at              bigint  NOT NULL
);

CREATE TABLE stock (
    item            bigint  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    sku             text    NOT NULL COLLATE "C",
    location        text    NOT NULL COLLATE "C",
    on_hand         bigint  NOT NULL,
    held            bigint  NOT NULL CHECK (held >= 0),
    allocated       bigint  NOT NULL CHECK (allocated >= 0),
    lent            bigint  NOT NULL CHECK (lent >= 0),
    safety_stock    bigint  NOT NULL CHECK (safety_stock >= 0),
    version         bigint  NOT NULL,
    touched_at      bigint  NOT NULL,
    UNIQUE (sku, location)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE hold (
    id              uuid    PRIMARY KEY,
    owner           text    NOT NULL,
    reference       text,
    created_at      bigint  NOT NULL,
    deadline        bigint  NOT NULL,
    max_deadline    bigint  NOT NULL,
    replaced_by     uuid,
    items           bigint[] NOT NULL,  -- its lines: numbers of stock items,
    units           bigint[] NOT NULL,  -- and how many of each were asked for
    CHECK (deadline <= max_deadline),
    CHECK (cardinality(items) > 0 AND cardinality(items) = cardinality(units)),
    CHECK (0 < ALL (units))
);

CREATE TABLE transition (
    hold            uuid    NOT NULL,
    n               integer NOT NULL CHECK (n > 0),
    step            text    NOT NULL CHECK (step IN
        ('confirm', 'rehold', 'release', 'expire', 'revoke', 'ship', 'cancel')),
    at              bigint  NOT NULL,
    reference       text,
    reason          text,
    lines           bigint[],           -- which lines it moved, from 0 on; none: all that it could
    units           bigint[],           -- and how many units of each
    PRIMARY KEY (hold, n),
    CHECK ((lines IS NULL) = (units IS NULL)),
    CHECK (lines IS NULL OR cardinality(lines) = cardinality(units))
);

-- The lines of active holds, by item and deadline: what can be reclaimed of an item, and when the
-- next of its holds dies. A row goes when its hold leaves `active`.
CREATE TABLE active (
    item            bigint  NOT NULL,
    deadline        bigint  NOT NULL,
    hold            uuid    NOT NULL,
    line            integer NOT NULL,
    instance        integer NOT NULL,   -- who placed it: that one expires it, others only when it is late
    PRIMARY KEY (item, deadline, hold)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX active_by_deadline ON active (deadline) WHERE line = 0;

CREATE TABLE movement (
    id              bigint  PRIMARY KEY,
    item            bigint  NOT NULL,
    kind            text    NOT NULL CHECK (kind IN ('create', 'receive', 'adjust', 'count', 'ship')),
    delta           bigint  NOT NULL,
    on_hand_after   bigint  NOT NULL,
    reason          text,
    reference       text,
    at              bigint  NOT NULL
);

CREATE TABLE idempotency (
    key             uuid    PRIMARY KEY,
    digest          uuid    NOT NULL,
    hold            uuid,
    movement        bigint,
    at              bigint  NOT NULL,
    CHECK ((hold IS NULL) <> (movement IS NULL))
);

-- Old keys are removed. New ones are always the last of this index, so it costs little.
CREATE INDEX idempotency_by_age ON idempotency (at);

-- What holds that were removed have shipped.
CREATE TABLE carried (
    item            bigint  PRIMARY KEY,
    shipped         bigint  NOT NULL CHECK (shipped >= 0)
);

-- How far a shop has come that moves in here from another ledger; see transfer.rs.
CREATE TABLE moving_in (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    source          uuid    NOT NULL,   -- the id of that ledger
    label           text    NOT NULL,   -- where it was, for people
    stage           text    NOT NULL,
    after           text    NOT NULL    -- the last row of this stage that is here, as the stage numbers them
);

-- For people with a shell: where each hold stands. A confirmed hold whose units are all shipped or
-- cancelled shows its last step.
CREATE VIEW hold_now AS
    SELECT id, owner, created_at, deadline,
        coalesce((SELECT step FROM transition WHERE transition.hold = hold.id
                  ORDER BY n DESC LIMIT 1), 'active') AS last_step
    FROM hold;
