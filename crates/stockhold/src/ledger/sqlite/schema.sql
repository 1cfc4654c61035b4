-- The embedded ledger.
--
-- What a hold asks for never changes; what happens to it is a list of transitions. So a place is
-- three appended rows and the end of a hold is one more, and no row of a hold is written twice
-- (but for an extend, or a replace). Holds are clustered by their UUIDv7, which rises with time:
-- new rows go to the right edge of every tree, and no tree has its pages written at random.

CREATE TABLE ledger (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    last_batch      BLOB    NOT NULL CHECK (length(last_batch) = 16),
    alive_at        INTEGER NOT NULL,  -- ms since 1970 on the ledger's clock: its high water
    oldest_active   BLOB    NOT NULL CHECK (length(oldest_active) = 16)  -- no active hold has a lower id
) STRICT;

INSERT INTO ledger VALUES (1, zeroblob(16), 0, zeroblob(16));

-- Outages whose grace may still spare a hold (R17).
CREATE TABLE grace (
    from_at         INTEGER PRIMARY KEY,
    to_at           INTEGER NOT NULL CHECK (to_at > from_at),
    until_at        INTEGER NOT NULL CHECK (until_at >= to_at)
) STRICT;

CREATE TABLE stock (
    item            INTEGER PRIMARY KEY,
    sku             TEXT    NOT NULL,
    location        TEXT    NOT NULL,
    on_hand         INTEGER NOT NULL,
    held            INTEGER NOT NULL CHECK (held >= 0),
    allocated       INTEGER NOT NULL CHECK (allocated >= 0),
    lent            INTEGER NOT NULL CHECK (lent >= 0),
    safety_stock    INTEGER NOT NULL CHECK (safety_stock >= 0),
    version         INTEGER NOT NULL,
    touched_at      INTEGER NOT NULL,
    UNIQUE (sku, location)
) STRICT;

CREATE TABLE hold (
    id              BLOB    PRIMARY KEY CHECK (length(id) = 16),
    owner           TEXT    NOT NULL,
    reference       TEXT,
    created_at      INTEGER NOT NULL,
    deadline        INTEGER NOT NULL CHECK (deadline <= max_deadline),
    max_deadline    INTEGER NOT NULL,
    replaced_by     BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE line (
    hold            BLOB    NOT NULL REFERENCES hold,
    n               INTEGER NOT NULL CHECK (n >= 0),
    item            INTEGER NOT NULL REFERENCES stock,
    requested       INTEGER NOT NULL CHECK (requested > 0),
    PRIMARY KEY (hold, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE transition (
    hold            BLOB    NOT NULL REFERENCES hold,
    n               INTEGER NOT NULL CHECK (n > 0),
    step            TEXT    NOT NULL CHECK (step IN
        ('confirm', 'rehold', 'release', 'expire', 'revoke', 'ship', 'cancel')),
    at              INTEGER NOT NULL,
    reference       TEXT,
    reason          TEXT,
    PRIMARY KEY (hold, n)
) STRICT, WITHOUT ROWID;

-- Which units a transition moved, if not all that it could.
CREATE TABLE transition_line (
    hold            BLOB    NOT NULL,
    n               INTEGER NOT NULL,
    line            INTEGER NOT NULL,
    units           INTEGER NOT NULL CHECK (units > 0),
    PRIMARY KEY (hold, n, line),
    FOREIGN KEY (hold, n) REFERENCES transition,
    FOREIGN KEY (hold, line) REFERENCES line
) STRICT, WITHOUT ROWID;

CREATE TABLE movement (
    id              INTEGER PRIMARY KEY,
    item            INTEGER NOT NULL REFERENCES stock,
    kind            TEXT    NOT NULL CHECK (kind IN ('create', 'receive', 'adjust', 'count', 'ship')),
    delta           INTEGER NOT NULL,
    on_hand_after   INTEGER NOT NULL,
    reason          TEXT,
    reference       TEXT,
    at              INTEGER NOT NULL
) STRICT;

-- Idempotency keys in the order in which they came. They are random, so there is no index on
-- them: key_run has them sorted, a run at a time, as an LSM tree would. See keys.rs.
CREATE TABLE idempotency (
    seq             INTEGER PRIMARY KEY,
    key             BLOB    NOT NULL CHECK (length(key) = 16),
    digest          BLOB    NOT NULL CHECK (length(digest) = 16),
    hold            BLOB,
    movement        INTEGER,
    at              INTEGER NOT NULL,
    CHECK ((hold IS NULL) <> (movement IS NULL))
) STRICT;

CREATE TABLE key_run (
    run             INTEGER NOT NULL,
    prefix          INTEGER NOT NULL,  -- the first 8 bytes of the key
    seq             INTEGER NOT NULL,
    PRIMARY KEY (run, prefix, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE complete_run (
    run             INTEGER PRIMARY KEY,
    last_seq        INTEGER NOT NULL   -- every key up to this one is in this run or an earlier one
) STRICT;

-- For people with a shell: where each hold stands. A confirmed hold whose units are all shipped or
-- cancelled shows its last step.
CREATE VIEW hold_now AS
    SELECT lower(hex(hold.id)) AS id, owner, created_at, deadline,
        coalesce((SELECT step FROM transition WHERE transition.hold = hold.id
                  ORDER BY n DESC LIMIT 1), 'active') AS last_step
    FROM hold;
