//! A transaction that a holder commits too late, refused by the database.

use std::time::Duration;

use tokio_postgres::{Transaction, types::Type};

use super::{Lease, LockError};
use crate::{Failure, FailureKind};

/// The table that [`Lease::guard_tx`] writes to; it has to be made once in the database of the work. The database of
/// a ledger has it.
pub const FENCE_TABLE: &str = include_str!("fence.sql");

/// Whoever was granted the lock later has written already, or nobody has.
const RAISE: &str = "INSERT INTO lock_fence AS last (name, epoch, number) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, number = excluded.number \
    WHERE (last.epoch, last.number) <= (excluded.epoch, excluded.number)";

/// No statement takes longer than that from now on, nor is the transaction left alone for longer; unless less was set
/// before.
const LIMIT: &str = "SELECT set_config(name, least($1, nullif(\
        (extract(epoch FROM current_setting(name)::interval) * 1000)::bigint, 0))::text, true) \
    FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout']) AS name";

impl Lease {
    /// Lets this transaction go on only if nobody who was granted the lock later has written under it in this
    /// database, and only for as long as the lease lasts: a statement that takes longer is cancelled. Whoever is
    /// granted the lock later waits here until this transaction has ended.
    ///
    /// To be called first in the transaction, of a database with [`FENCE_TABLE`].
    ///
    /// ```no_run
    /// # async fn f(lease: stockhold::lock::Lease, client: &mut tokio_postgres::Client)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// let tx = client.transaction().await?;
    /// lease.guard_tx(&tx).await?;
    /// tx.execute("UPDATE report SET closed = true", &[]).await?;
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LockError::Lost`] if the lease is over, or somebody else's by now; [`LockError::Unavailable`] if the database
    /// refuses. The transaction is to be rolled back.
    pub async fn guard_tx(&self, tx: &Transaction<'_>) -> Result<(), LockError> {
        let left = self.left();
        if left < Duration::from_millis(1) {
            return Err(LockError::Lost);
        }
        let unavailable = |error: tokio_postgres::Error| {
            let message = "the database does not take the fence of a lock";
            let failure = Failure::new(FailureKind::Unavailable, message).caused_by(error);
            LockError::Unavailable(failure)
        };
        let most = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        tx.query_typed(LIMIT, &[(&most, Type::INT8)]).await.map_err(unavailable)?;
        let fence = self.fence();
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let raised = tx
            .execute_typed(
                RAISE,
                &[
                    (&self.name().as_str(), Type::TEXT),
                    (&number(fence.epoch), Type::INT8),
                    (&number(fence.seq), Type::INT8),
                ],
            )
            .await
            .map_err(unavailable)?;
        // Whoever has waited for another one's transaction may have lost the lease meanwhile.
        if raised == 1 && !self.left().is_zero() { Ok(()) } else { Err(LockError::Lost) }
    }
}
