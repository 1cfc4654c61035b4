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
    Connect, Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod,
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
};

/// How long one trip to Postgres may take before the connection counts as dead. The server's own
/// time-outs are shorter; this one is for a server that does not even say so.
pub(super) const TRIP: Duration = Duration::from_secs(4);
/// How long one host may take, if the URL has no `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(30);
/// After a failed attempt to connect, so long nobody tries again.
const PAUSE: Duration = Duration::from_millis(200);

/// A pool of connections, and what is known of the server behind it.
pub(super) struct Link {
    pool: Pool,
    /// How long to wait for a new connection: for one host after the other.
    patience: Duration,
    turns: Semaphore,
    /// When to try again, in ms since boot; 0 if the last attempt was well.
    down_until: AtomicU64,
    is_trying: AtomicBool,
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
        let (down_until, is_trying) = Default::default();
        Ok(Self { pool, patience, turns, down_until, is_trying, unconfirmed, witness })
    }

    /// A connection, when it is one's turn. Fails at once while the server is known to be away.
    pub(super) async fn connection(&self) -> Result<Connection<'_>, Failure> {
        let turn = within(&SystemClock, TRIP, self.turns.acquire()).await;
        let Some(Ok(turn)) = turn else { return Err(failure::silent()) };
        let down_until = self.down_until.load(Ordering::Relaxed);
        if down_until == 0 {
            return self.connect().await.map(|object| self.lend(object, turn));
        }
        if now() < down_until || self.is_trying.swap(true, Ordering::Relaxed) {
            return Err(failure::silent());
        }
        let tried = self.connect().await;
        self.is_trying.store(false, Ordering::Relaxed);
        tried.map(|object| self.lend(object, turn))
    }

    fn lend<'a>(&'a self, object: Object, turn: SemaphorePermit<'a>) -> Connection<'a> {
        Connection { object: Some(object), pool: &self.pool, turn }
    }

    async fn connect(&self) -> Result<Object, Failure> {
        let failure = match within(&SystemClock, self.patience, self.pool.get()).await {
            Some(Ok(object)) => {
                self.down_until.store(0, Ordering::Relaxed);
                return self.witness.check().map(|()| object);
            }
            Some(Err(deadpool_postgres::PoolError::Backend(error))) => {
                Trouble::from(error).into_failure()
            }
            Some(Err(error)) => failure::silent().caused_by(error),
            None => failure::silent(),
        };
        self.down_until.store(now().saturating_add(millis(PAUSE)), Ordering::Relaxed);
        Err(failure)
    }

    /// How many commits so far did not wait for a standby as they should have.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    /// Connects no more.
    pub(super) fn close(&self) {
        self.turns.close();
        self.pool.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }
}

/// A connection that goes back to the pool, unless a trip on it did not come back.
pub(super) struct Connection<'a> {
    object: Option<Object>,
    pool: &'a Pool,
    #[expect(dead_code, reason = "gives the turn back when it is dropped")]
    turn: SemaphorePermit<'a>,
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
        let Some(object) = self.object.as_ref() else {
            return Err(Trouble::Away(failure::silent()));
        };
        match within(&SystemClock, limit, work(object)).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(error.into()),
            None => {
                self.discard();
                // If the server stands still, so do all of them; nobody waits for each in turn.
                self.pool.retain(|_, _| false);
                Err(Trouble::Away(failure::silent()))
            }
        }
    }

    /// Nobody knows in which state the connection is.
    pub(super) fn discard(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
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
            let driver = tokio::spawn(async move {
                while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                    match message {
                        Ok(AsyncMessage::Notice(notice)) if is_unconfirmed(&notice) => {
                            unconfirmed.fetch_add(1, Ordering::Relaxed);
                            warn!(%notice, "a commit did not wait for the standby");
                        }
                        Ok(_) => {}
                        Err(error) => return warn!(%error, "a connection to Postgres was lost"),
                    }
                }
            });
            witness.question(&client).await?;
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
