//! The tests of the engine and its ledgers.
