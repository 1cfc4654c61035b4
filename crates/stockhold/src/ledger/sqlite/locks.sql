-- The epoch of the locks that the process grants which has the file open: it rises each time that one opens it.
ALTER TABLE ledger ADD COLUMN lock_epoch INTEGER NOT NULL DEFAULT 0;
