//! Connections: the one place that knows how Postgres is reached.

use std::{
    future::poll_fn,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, Pool, PoolError, QueueMode, RecyclingMethod,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error,
    error::{DbError, Severity, SqlState},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use super::{
    failure::{self, Trouble},
    hosts::Hosts,
    tls,
    url::PostgresUrl,
    witness::Witness,
};
use crate::{
    Failure,
    clock::{Clock, SystemClock, within},
    error::chain,
};

/// How long one trip to Postgres may take before the connection counts as dead. The server's own
/// time-outs are shorter; this one is for a server that does not even say so.
pub(super) const TRIP: Duration = Duration::from_secs(4);
/// How long one host may take, if the URL has no `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to connect while the server is away.
const PAUSE: Duration = Duration::from_millis(200);

/// A server without room for one more connection is asked again after so long.
const NO_ROOM: Duration = Duration::from_millis(25);
/// So many connections are left to batches, however many read at once.
const FOR_BATCHES: usize = 3;
/// And so many are for locks, at most.
const FOR_LOCKS: usize = 4;

/// The way to the server, for so many at once.
pub(super) struct Link {
    reach: Arc<Reach>,
    turns: Semaphore,
    /// Whoever only reads takes one of these first.
    turns_to_read: Semaphore,
    turns_for_locks: Semaphore,
    /// Commits that did not wait for a standby as they should have.
    unconfirmed: Arc<AtomicU64>,
    pub(super) witness: Arc<Witness>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("pool", &self.reach.pool.status()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(url: &PostgresUrl, connections: usize) -> Result<Self, Failure> {
        let mut config = url.config.clone();
        let each = config.get_connect_timeout().copied().unwrap_or(CONNECT);
        config.connect_timeout(each).keepalives_idle(Duration::from_secs(10));
        config.tcp_user_timeout(TRIP);
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        let patience = each.saturating_mul(hosts.saturating_add(1)).min(MOST_PATIENCE);
        let (unconfirmed, witness) = (Arc::default(), Arc::<Witness>::default());
        let tls = tls::connector(&url.check)?;
        let dial = Dial {
            tls,
            hosts: Arc::new(Hosts::of(&config, each)),
            unconfirmed: Arc::clone(&unconfirmed),
            witness: Arc::clone(&witness),
        };
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_connect(config, dial, ManagerConfig { recycling_method });
        // The one that was used last: its server process has everything at hand.
        let pool = Pool::builder(manager).max_size(connections).queue_mode(QueueMode::Lifo).build();
        let pool = pool.map_err(|e| failure::silent().caused_by(e))?;
        let reach = Arc::new(Reach { pool, patience, is_down: AtomicBool::new(false) });
        let turns = Semaphore::new(connections);
        let others = connections.saturating_sub(FOR_BATCHES).max(1);
        let turns_to_read = Semaphore::new(others);
        let turns_for_locks = Semaphore::new(others.min(FOR_LOCKS));
        Ok(Self { reach, turns, turns_to_read, turns_for_locks, unconfirmed, witness })
    }

    /// A connection, when it is one's turn. Fails at once while the server is known to be away.
    pub(super) async fn connection(&self) -> Result<Connection<'_>, Failure> {
        let turn = within(&SystemClock, TRIP, self.turns.acquire()).await;
        let Some(Ok(turn)) = turn else { return Err(failure::silent()) };
        let object = self.reach.connect().await?;
        self.witness.check()?;
        let (object, turns_of_kind, is_dirty) = (Some(object), Vec::new(), false);
        Ok(Connection { object, reach: &self.reach, turn, turns_of_kind, is_dirty })
    }

    /// The same for whoever has to know, and asks a few times: a server that was killed may be back in
    /// a moment. All who ask meanwhile wait for that.
    pub(super) async fn connection_soon(&self) -> Result<Connection<'_>, Failure> {
        if let Ok(connection) = self.connection().await {
            return Ok(connection);
        }
        SystemClock.sleep(PAUSE / 2).await;
        self.connection().await
    }

    /// The same for whoever only reads: batches do not wait for a thousand of those.
    pub(super) async fn connection_to_read(&self) -> Result<Connection<'_>, Failure> {
        self.connection_behind([&self.turns_to_read]).await
    }

    /// The same for locks, of which a thousand may be asked for at once: others read meanwhile.
    pub(super) async fn connection_for_locks(&self) -> Result<Connection<'_>, Failure> {
        self.connection_behind([&self.turns_for_locks, &self.turns_to_read]).await
    }

    async fn connection_behind<'a, const N: usize>(
        &'a self,
        turns: [&'a Semaphore; N],
    ) -> Result<Connection<'a>, Failure> {
        let mut had = Vec::with_capacity(N);
        for turns in turns {
            let turn = within(&SystemClock, TRIP, turns.acquire()).await;
            let Some(Ok(turn)) = turn else { return Err(failure::silent()) };
            had.push(turn);
        }
        let mut connection = self.connection().await?;
        connection.turns_of_kind = had;
        Ok(connection)
    }

    /// How many commits so far did not wait for a standby as they should have.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    /// Connects no more.
    pub(super) fn close(&self) {
        self.turns.close();
        self.turns_to_read.close();
        self.turns_for_locks.close();
        self.reach.pool.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.reach.pool.is_closed()
    }
}

/// A pool of connections, and whether there is a server behind it.
struct Reach {
    pool: Pool,
    /// How long to wait for a new connection: for one host after the other.
    patience: Duration,
    /// Set, a task of its own finds out whether it still is: nobody waits for that.
    is_down: AtomicBool,
}

impl Reach {
    async fn connect(self: &Arc<Self>) -> Result<Object, Failure> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(failure::silent());
        }
        self.object().await.map_err(|unreached| match unreached {
            Unreached::Full(failure) => failure,
            Unreached::Away(failure) => {
                self.is_away();
                failure
            }
        })
    }

    async fn object(&self) -> Result<Object, Unreached> {
        let mut full = None;
        match within(&SystemClock, self.patience, self.any(&mut full)).await {
            Some(Ok(object)) => Ok(object),
            Some(Err(PoolError::Backend(error))) => {
                Err(Unreached::Away(Trouble::from(error).into_failure()))
            }
            Some(Err(error)) => Err(Unreached::Away(failure::silent().caused_by(error))),
            None => match full {
                Some(error) => Err(Unreached::Full(Trouble::from(error).into_failure())),
                None => Err(Unreached::Away(failure::silent())),
            },
        }
    }

    /// A connection of the pool. If the server has no room for another one, those that are there have
    /// to do.
    async fn any(&self, full: &mut Option<Error>) -> Result<Object, PoolError> {
        loop {
            match self.pool.get().await {
                Err(PoolError::Backend(error))
                    if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
                        && self.pool.status().size > 0 =>
                {
                    *full = Some(error);
                    SystemClock.sleep(NO_ROOM).await;
                }
                other => return other,
            }
        }
    }

    /// From now on all are told so at once, until it answers again.
    fn is_away(self: &Arc<Self>) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tokio::spawn(Self::try_again(Down(Arc::downgrade(self))));
        }
    }

    /// Tells the log why, and again when that is another reason.
    async fn try_again(down: Down) {
        let mut told = None;
        while let Some(reach) = down.0.upgrade().filter(|reach| !reach.pool.is_closed()) {
            let (Unreached::Away(failure) | Unreached::Full(failure)) = match reach.object().await {
                Ok(_) if told.is_some() => return warn!("Postgres answers again"),
                Ok(_) => return,
                Err(unreached) => unreached,
            };
            drop(reach);
            let why = format!("{}", failure.chain());
            if told.as_ref() != Some(&why) {
                warn!(error = why, "Postgres is away");
                told = Some(why);
            }
            SystemClock.sleep(PAUSE).await;
        }
    }
}

/// Why no connection is to be had.
enum Unreached {
    /// The server has no room for another one, and those that are there are in use.
    Full(Failure),
    Away(Failure),
}

/// The server counts as away for as long as this is there.
struct Down(Weak<Reach>);

impl Drop for Down {
    fn drop(&mut self) {
        if let Some(reach) = self.0.upgrade() {
            reach.is_down.store(false, Ordering::Relaxed);
        }
    }
}

/// A connection that goes back to the pool, unless nobody knows what is going on on it: a trip did not
/// come back, or a transaction was begun and not ended.
pub(super) struct Connection<'a> {
    object: Option<Object>,
    reach: &'a Arc<Reach>,
    is_dirty: bool,
    #[expect(dead_code, reason = "gives the turn back when it is dropped")]
    turn: SemaphorePermit<'a>,
    turns_of_kind: Vec<SemaphorePermit<'a>>,
}

impl Connection<'_> {
    /// Makes a trip; if it takes too long, the connection is thrown away.
    pub(super) async fn trip<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Trouble> {
        self.trip_within(TRIP, work).await
    }

    /// The same for work that may take longer.
    pub(super) async fn trip_within<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Trouble> {
        let was_dirty = std::mem::replace(&mut self.is_dirty, true);
        let Some(object) = self.object.as_ref() else {
            return Err(Trouble::Away(failure::silent()));
        };
        let Some(done) = within(&SystemClock, limit, work(object)).await else {
            self.discard();
            // If the server stands still, so do all of them; nobody waits for each in turn.
            self.reach.pool.retain(|_, _| false);
            self.reach.is_away();
            return Err(Trouble::Away(failure::silent()));
        };
        self.is_dirty = was_dirty;
        done.map_err(Trouble::from)
    }

    /// A transaction is begun with the next trip, and ends with another one.
    pub(super) const fn begins(&mut self) {
        self.is_dirty = true;
    }

    /// The transaction that was begun has ended.
    pub(super) const fn has_ended(&mut self) {
        self.is_dirty = false;
    }

    /// Ends the transaction, if there is one.
    pub(super) async fn roll_back(&mut self) {
        if self.trip(async |client| client.batch_execute("ROLLBACK").await).await.is_ok() {
            self.has_ended();
        }
    }

    /// Nobody knows in which state the connection is.
    pub(super) fn discard(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if self.is_dirty {
            self.discard();
        }
    }
}

/// Connects, and listens to what the server says by itself.
struct Dial {
    tls: MakeRustlsConnect,
    hosts: Arc<Hosts>,
    unconfirmed: Arc<AtomicU64>,
    witness: Arc<Witness>,
}

impl Connect for Dial {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let (hosts, tls) = (Arc::clone(&self.hosts), self.tls.clone());
        let (unconfirmed, witness) = (Arc::clone(&self.unconfirmed), Arc::clone(&self.witness));
        Box::pin(async move {
            let (client, mut connection) = hosts.connect(&tls).await?;
            let is_greeted = Arc::new(AtomicBool::new(false));
            let counts = Arc::clone(&is_greeted);
            let driver = tokio::spawn(async move {
                while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                    match message {
                        Ok(AsyncMessage::Notice(notice))
                            if counts.load(Ordering::Relaxed) && is_unconfirmed(&notice) =>
                        {
                            unconfirmed.fetch_add(1, Ordering::Relaxed);
                            warn!(%notice, "a commit did not wait for the standby");
                        }
                        Ok(_) => {}
                        Err(error) => {
                            return warn!(error = %chain(&error), "a connection to Postgres was lost");
                        }
                    }
                }
            });
            witness.question(&client).await?;
            // What it warns of as it greets, of collations for example, has arrived before this answer.
            client.batch_execute("").await?;
            is_greeted.store(true, Ordering::Relaxed);
            Ok((client, driver))
        })
    }
}

/// The transaction is committed here, but perhaps nowhere else. Postgres has no code of its own for
/// it, and its words are translated; but there is no other plain warning that a batch gives cause for.
fn is_unconfirmed(notice: &DbError) -> bool {
    let is_plain =
        *notice.code() == SqlState::WARNING || *notice.code() == SqlState::ADMIN_SHUTDOWN;
    notice.parsed_severity() == Some(Severity::Warning) && is_plain
}
