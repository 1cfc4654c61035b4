//! Integration tests of the server: the HTTP contract over real sockets, and the program.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod access;
mod bad_input;
mod bench;
mod child;
mod connections;
mod crash;
mod demo;
mod holds;
mod load;
mod lossy;
mod operations;
mod overload;
mod problems;
mod program;
mod protocols;
mod settings;
mod shutdown;
mod slow_clients;
mod stock;
mod support;
