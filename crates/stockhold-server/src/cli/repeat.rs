//! How a request is known again.

use stockhold::IdempotencyKey;

/// The option of every command that does something which must not be done twice.
#[derive(Debug, clap::Args)]
pub(super) struct Repeat {
    /// A name for this request, under which it may be repeated without being done twice; a random
    /// one if none is given.
    #[arg(long = "idempotency-key", value_name = "KEY")]
    pub(super) key: Option<IdempotencyKey>,
}
