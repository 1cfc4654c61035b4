//! Integration tests of the server: the HTTP contract over real sockets, and the program.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod bad_input;
mod connections;
mod demo;
mod holds;
mod problems;
mod program;
mod stock;
mod support;
