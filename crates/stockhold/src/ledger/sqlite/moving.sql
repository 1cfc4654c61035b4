-- A shop that moves from one ledger to another: why nothing is written here any more, or not yet;
-- and how far it has come that moves in here. See ledger/transfer.rs.
ALTER TABLE ledger ADD COLUMN sealed TEXT;

CREATE TABLE moving_in (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    source          TEXT    NOT NULL,
    stage           TEXT    NOT NULL,
    after           TEXT    NOT NULL   -- the last row of this stage that is here, as the source numbers them
) STRICT;
