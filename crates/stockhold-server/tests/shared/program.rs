//! The built program over Postgres: what it says, and to whom.

mod cold;
mod copies;
mod frozen;
mod moving;
mod ready;
mod redis_secrets;
mod secrets;
