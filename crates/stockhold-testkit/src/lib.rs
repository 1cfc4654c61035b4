//! What fault tests stand on: servers that belong to one test, and ways to break them.
//!
//! This is test code. What meets the unexpected ends the test, with a text that says what to do.
//! A server has a folder of its own, is reached by a socket in it or by a port that nobody else
//! takes, and ends with the test, or at the latest with the process of the test.

mod child;
mod clock_shim;
mod folder;
pub mod history;
pub mod pgbouncer;
mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
mod time;
mod user;

pub use child::Child;
pub use clock_shim::ClockShim;
pub use history::{History, Recorder};
pub use pgbouncer::PgBouncer;
pub use postgres::PostgresServer;
pub use process::ServerProcess;
pub use proxy::Proxy;
pub use redis::RedisServer;
pub use rustix::process::Signal;
pub use time::{now, until};
