//! Remembers the last batches that this instance has answered, and asks every server that it comes to
//! whether it has them. A standby that did not wait for its primary may lack some: then this instance
//! has promised what nobody knows of, and promises nothing more until somebody has looked at it, and
//! started it again.
//!
//! It asks with each new connection, which a failover makes necessary. Behind a pooler, whose
//! connections outlive the server, it notices nothing.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use stockhold_core::Timestamp;
use tokio_postgres::{Client, Error, types::Type};
use uuid::Uuid;

use crate::{Failure, FailureKind, ledger::BatchId};

/// Batches of two lanes may be answered in another order than they were committed in.
const REMEMBERED: usize = 16;

/// Those that are not older than 30 min: an old batch is removed some time after an hour.
const LOST: &str = "SELECT count(*) FROM unnest($1, $2) AS done (id, at) \
    WHERE at > (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1800000 \
        AND NOT EXISTS (SELECT FROM batch WHERE batch.id = done.id)";

#[derive(Debug, Default)]
pub(super) struct Witness {
    last: Mutex<VecDeque<(Uuid, i64)>>,
    /// The most that a server lacked at once.
    lost: AtomicU64,
}

impl Witness {
    /// This batch is committed, and will be answered.
    pub(super) fn note(&self, batch: BatchId, at: Timestamp) {
        let mut last = self.last();
        if last.len() >= REMEMBERED {
            last.pop_front();
        }
        last.push_back((Uuid::from_bytes(batch.0), at.as_millis()));
    }

    /// Asks a server that was just connected to.
    pub(super) async fn question(&self, client: &Client) -> Result<(), Error> {
        let (ids, at): (Vec<_>, Vec<_>) = self.last().iter().copied().unzip();
        if ids.is_empty() {
            return Ok(());
        }
        let params = [(&ids as _, Type::UUID_ARRAY), (&at as _, Type::INT8_ARRAY)];
        let lost: i64 = client.query_typed_one(LOST, &params).await?.try_get(0)?;
        let lost = lost.unsigned_abs();
        if lost > 0 && self.lost.fetch_max(lost, Ordering::Relaxed) == 0 {
            tracing::error!(
                lost,
                "Postgres has lost batches that were answered, as after a failover to an \
                 asynchronous standby: nothing more is done here. Run stockhold verify, look into \
                 what is missing, and start this instance again"
            );
        }
        Ok(())
    }

    /// How many batches a server lacked.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Unavailable` if a server lacked something that this instance had answered.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.lost() > 0 {
            let message = "Postgres has lost what was answered: see the log of this instance";
            return Err(Failure::new(FailureKind::Unavailable, message));
        }
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<(Uuid, i64)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
