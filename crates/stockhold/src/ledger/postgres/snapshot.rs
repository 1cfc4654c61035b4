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
    let mut connection = desk.link.connection_to_read().await?;
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
}

impl<'a> Snapshot<'a> {
    /// Begins with one trip, which tells what time it is.
    pub(super) async fn begin(desk: &'a Desk) -> Result<(Self, Life), Trouble> {
        Self::begin_on(desk.link.connection_to_read().await?, desk, BEGIN).await
    }

    /// For the sweeper: it does not wait for those who read.
    pub(super) async fn begin_to_sweep(desk: &'a Desk) -> Result<(Self, Life), Trouble> {
        Self::begin_on(desk.link.connection().await?, desk, BEGIN).await
    }

    /// One that may last for hours: others who read do not wait for it.
    pub(super) async fn begin_long(desk: &'a Desk) -> Result<(Self, Life), Trouble> {
        Self::begin_on(desk.link.connection().await?, desk, BEGIN_LONG).await
    }

    async fn begin_on(
        mut connection: Connection<'a>,
        desk: &Desk,
        begin: &str,
    ) -> Result<(Self, Life), Trouble> {
        connection.begins();
        let read = connection.trip(async |client| {
            tokio::try_join!(biased; client.batch_execute(begin), life::read(client))
        });
        let ((), life) = read.await?;
        let life = Life::of(&life, &desk.time)?;
        Ok((Self { connection }, life))
    }

    pub(super) const fn connection(&mut self) -> &mut Connection<'a> {
        &mut self.connection
    }

    pub(super) async fn end(mut self) -> Result<(), Trouble> {
        self.connection.trip(async |client| client.batch_execute("COMMIT").await).await?;
        self.connection.has_ended();
        Ok(())
    }
}
