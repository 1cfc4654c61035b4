//! What fault tests stand on: servers that belong to one test, and ways to break them.
//!
//! This is test code. What meets the unexpected ends the test, with a text that says what to do.
//! A server has a folder of its own, is reached by a socket in it or by a port that nobody else
//! takes, and ends with the test, or at the latest with the process of the test.

mod child;
mod folder;
mod port;
pub mod postgres;
pub mod proxy;
mod time;
mod user;

pub use child::Child;
pub use postgres::PostgresServer;
pub use proxy::Proxy;
pub use time::{now, until};
