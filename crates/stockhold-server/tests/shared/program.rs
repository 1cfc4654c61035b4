//! The built program over Postgres: what it says, and to whom.

mod copies;
mod moving;
mod ready;
mod secrets;
