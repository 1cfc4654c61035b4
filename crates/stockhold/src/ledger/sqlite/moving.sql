-- A shop that moves from one ledger to another: why nothing is written here any more, or not yet;
-- and how far it has come that moves in here. See ledger/transfer.rs.
ALTER TABLE ledger ADD COLUMN id BLOB CHECK (length(id) = 16);       -- made with the ledger: a move knows both ends by theirs
ALTER TABLE ledger ADD COLUMN sealed TEXT;
ALTER TABLE ledger ADD COLUMN moves_to BLOB;                         -- the id of the ledger that it moves to,
ALTER TABLE ledger ADD COLUMN has_moved INTEGER NOT NULL DEFAULT 0;  -- and whether all of it is there

UPDATE ledger SET id = randomblob(16);

CREATE TABLE moving_in (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    source          BLOB    NOT NULL CHECK (length(source) = 16),  -- the id of that ledger
    label           TEXT    NOT NULL,  -- where it was, for people
    stage           TEXT    NOT NULL,
    after           TEXT    NOT NULL   -- the last row of this stage that is here, as the source numbers them
) STRICT;
