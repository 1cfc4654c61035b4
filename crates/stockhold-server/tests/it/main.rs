//! Integration tests of the server: the HTTP contract over real sockets, and the program.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod access;
mod backup;
mod bad_input;
mod batch;
mod bench;
mod catalogue;
mod child;
mod cli;
mod connections;
mod contract;
mod crash;
mod demo;
mod docs;
mod holds;
mod lists;
mod load;
mod lossy;
mod openapi;
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
mod transfer;
