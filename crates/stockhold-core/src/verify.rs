//! The invariants, recomputed from rows.
