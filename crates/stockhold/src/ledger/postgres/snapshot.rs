//! Reads that see one moment of the ledger.

use tokio_postgres::{Client, Error};

use super::{
    batch::Desk,
    failure::Trouble,
    life::{self, Life},
    link::Connection,
};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                     SET LOCAL statement_timeout = '2s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '2s'";
/// For whoever reads everything: it takes as long as it takes.
const BEGIN_LONG: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                          SET LOCAL statement_timeout = 0; \
                          SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Reads in one trip; says what time it was as well. All is sent before the first answer is awaited,
/// so that nobody who stops waiting leaves a transaction behind.
pub(super) async fn look<T>(
    desk: &Desk,
    read: impl AsyncFnOnce(&Client) -> Result<T, Error>,
) -> Result<(Life, T), Trouble> {
    let mut connection = desk.link.connection().await?;
    let trip = connection.trip(async |client| {
        tokio::try_join!(biased;
            client.batch_execute(BEGIN),
            life::read(client),
            read(client),
            client.batch_execute("COMMIT"),
        )
    });
    let ((), life, found, ()) = trip.await?;
    Ok((Life::of(&life, &desk.time)?, found))
}

/// For reads that take more than one trip. If it is not brought to its end, its connection is thrown
/// away, and the transaction with it.
pub(super) struct Snapshot<'a> {
    connection: Connection<'a>,
    is_over: bool,
}

impl<'a> Snapshot<'a> {
    /// Begins with one trip, which tells what time it is.
    pub(super) async fn begin(desk: &'a Desk) -> Result<(Self, Life), Trouble> {
        Self::begin_as(desk, BEGIN).await
    }

    /// One that may last for hours.
    pub(super) async fn begin_long(desk: &'a Desk) -> Result<(Self, Life), Trouble> {
        Self::begin_as(desk, BEGIN_LONG).await
    }

    async fn begin_as(desk: &'a Desk, begin: &str) -> Result<(Self, Life), Trouble> {
        let connection = desk.link.connection().await?;
        let mut snapshot = Self { connection, is_over: false };
        let read = snapshot.connection.trip(async |client| {
            tokio::try_join!(biased; client.batch_execute(begin), life::read(client))
        });
        let ((), life) = read.await?;
        Ok((snapshot, Life::of(&life, &desk.time)?))
    }

    pub(super) const fn connection(&mut self) -> &mut Connection<'a> {
        &mut self.connection
    }

    pub(super) async fn end(mut self) -> Result<(), Trouble> {
        self.connection.trip(async |client| client.batch_execute("COMMIT").await).await?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.discard();
        }
    }
}
