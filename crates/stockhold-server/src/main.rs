//! stockhold.
fn main() {}
