//! Connections: the one place that knows how Postgres is reached.

use std::{
    future::poll_fn,
    sync::{
        Arc,
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
/// After a failed attempt to connect, so long nobody tries again.
const PAUSE: Duration = Duration::from_millis(200);

/// A server without room for one more connection is asked again after so long.
const NO_ROOM: Duration = Duration::from_millis(25);
/// So many connections are left to batches, however many read at once.
const FOR_BATCHES: usize = 3;

/// A pool of connections, and what is known of the server behind it.
pub(super) struct Link {
    pool: Pool,
    /// How long to wait for a new connection: for one host after the other.
    patience: Duration,
    turns: Semaphore,
    /// Whoever only reads takes one of these first.
    turns_to_read: Semaphore,
    /// When to try again, in ms since boot; 0 if the last attempt was well.
    down_until: AtomicU64,
    /// While the server is away, one at a time finds out whether it still is.
    trying: tokio::sync::Mutex<()>,
    /// Commits that did not wait for a standby as they should have.
    unconfirmed: Arc<AtomicU64>,
    pub(super) witness: Arc<Witness>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("pool", &self.pool.status()).finish_non_exhaustive()
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
        let (unconfirmed, witness) = (Arc::default(), Arc::default());
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
        let turns = Semaphore::new(connections);
        let turns_to_read = Semaphore::new(connections.saturating_sub(FOR_BATCHES).max(1));
        let (down_until, trying) = Default::default();
        Ok(Self { pool, patience, turns, turns_to_read, down_until, trying, unconfirmed, witness })
    }

    /// The same for whoever has to know: a server that was killed is back in a moment.
    pub(super) async fn connection_soon(&self) -> Result<Connection<'_>, Failure> {
        const ATTEMPTS: u32 = 4;
        for _ in 1..ATTEMPTS {
            if let Ok(connection) = self.connection().await {
                return Ok(connection);
            }
            SystemClock.sleep(PAUSE).await;
        }
        self.connection().await
    }

    /// The same for whoever only reads: batches do not wait for a thousand of those.
    pub(super) async fn connection_to_read(&self) -> Result<Connection<'_>, Failure> {
        let turn = within(&SystemClock, TRIP, self.turns_to_read.acquire()).await;
        let Some(Ok(turn)) = turn else { return Err(failure::silent()) };
        let mut connection = self.connection().await?;
        connection.turn_to_read = Some(turn);
        Ok(connection)
    }

    /// A connection, when it is one's turn. Fails at once while the server is known to be away.
    pub(super) async fn connection(&self) -> Result<Connection<'_>, Failure> {
        let turn = within(&SystemClock, TRIP, self.turns.acquire()).await;
        let Some(Ok(turn)) = turn else { return Err(failure::silent()) };
        let down_until = self.down_until.load(Ordering::Relaxed);
        if down_until == 0 {
            return self.connect().await.map(|object| self.lend(object, turn));
        }
        // Given back also by whoever stops waiting.
        let Ok(_trying) = self.trying.try_lock() else { return Err(failure::silent()) };
        if now() < down_until {
            return Err(failure::silent());
        }
        self.connect().await.map(|object| self.lend(object, turn))
    }

    fn lend<'a>(&'a self, object: Object, turn: SemaphorePermit<'a>) -> Connection<'a> {
        let (turn_to_read, is_dirty) = (None, false);
        Connection { object: Some(object), pool: &self.pool, turn, turn_to_read, is_dirty }
    }

    async fn connect(&self) -> Result<Object, Failure> {
        let failure = match within(&SystemClock, self.patience, self.any()).await {
            Some(Ok(object)) => {
                if self.down_until.swap(0, Ordering::Relaxed) != 0 {
                    warn!("Postgres answers again");
                }
                return self.witness.check().map(|()| object);
            }
            Some(Err(PoolError::Backend(error))) => Trouble::from(error).into_failure(),
            Some(Err(error)) => failure::silent().caused_by(error),
            None => failure::silent(),
        };
        let down_until = now().saturating_add(millis(PAUSE));
        if self.down_until.swap(down_until, Ordering::Relaxed) == 0 {
            warn!(error = %failure.chain(), "Postgres is away");
        }
        Err(failure)
    }

    /// A connection of the pool. If the server has no room for another one, those that are there have
    /// to do.
    async fn any(&self) -> Result<Object, PoolError> {
        loop {
            match self.pool.get().await {
                Err(PoolError::Backend(error))
                    if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
                        && self.pool.status().size > 0 =>
                {
                    SystemClock.sleep(NO_ROOM).await;
                }
                other => return other,
            }
        }
    }

    /// How many commits so far did not wait for a standby as they should have.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    /// Connects no more.
    pub(super) fn close(&self) {
        self.turns.close();
        self.turns_to_read.close();
        self.pool.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }
}

/// A connection that goes back to the pool, unless nobody knows what is going on on it: a trip did not
/// come back, or a transaction was begun and not ended.
pub(super) struct Connection<'a> {
    object: Option<Object>,
    pool: &'a Pool,
    is_dirty: bool,
    #[expect(dead_code, reason = "gives the turn back when it is dropped")]
    turn: SemaphorePermit<'a>,
    turn_to_read: Option<SemaphorePermit<'a>>,
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
            self.pool.retain(|_, _| false);
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

fn now() -> u64 {
    millis(SystemClock.boot())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
