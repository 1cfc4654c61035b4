//! How Redis is reached: the one place that knows.
//!
//! Redis makes reads and refusals fast, and coordinates; it is never asked to be right. So it need not be
//! there when a program starts, and comes up later by itself; everything that is asked of it has a
//! time-out; when it fails a few times in a row it is left alone for a while (a circuit breaker). What it
//! did not do is a [`Trouble`], whose [`Kind`] says what is to be done.
//!
//! No command is newer than Redis 6.2. Tested with Redis 7.0; Valkey and others are untested.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, PushInfo, Value, cmd};
use tokio::sync::watch;
use tracing::{info, warn};

use self::{
    breaker::Breaker,
    dial::{Dial, Line},
};
use crate::{
    Failure,
    clock::{Clock, SystemClock, within},
    error::chain,
};

mod breaker;
mod dial;
mod hearing;
mod lines;
mod script;
mod trouble;
mod url;

pub(crate) use hearing::Hearing;
pub(crate) use lines::Lines;
pub(crate) use script::{Run, Script, duration, millis, text, texts_of};
pub use trouble::{Kind, Trouble};
pub use url::RedisUrl;

/// A Redis, whether it is there or not. Clones are handles on the same connection.
///
/// ```
/// # use stockhold::redis::Redis;
/// # #[tokio::main] async fn main() -> Result<(), stockhold::Failure> {
/// let redis = Redis::new(&"redis://127.0.0.1:1".parse()?)?; // nobody listens there
/// assert!(redis.ping().await.is_err());
/// assert!(!redis.is_open()); // once is not enough to leave it alone
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    url: RedisUrl,
    dial: Dial,
    state: watch::Sender<State>,
    breaker: Breaker,
    /// By the place of the kind among all kinds.
    troubles: [AtomicU64; Kind::ALL.len()],
    connections: AtomicU64,
}

/// Where the one connection for commands is.
#[derive(Clone)]
enum State {
    Away,
    /// A task of its own connects: whoever stops waiting for it does not stop it.
    Connecting,
    Refused(Trouble),
    Live(Live),
}

#[derive(Clone)]
struct Live {
    line: Line,
    /// Each connection has another one.
    number: u64,
}

/// How long an answer may take, if nobody says otherwise: 50 ms.
pub(crate) const ANSWER: Duration = Duration::from_millis(50);

impl Redis {
    /// Does not connect yet.
    ///
    /// # Errors
    /// `Invalid` if what the URL names cannot be used: a file of certificates, for example.
    pub fn new(url: &RedisUrl) -> Result<Self, Failure> {
        let shared = Shared {
            dial: Dial::new(url)?,
            url: url.clone(),
            state: watch::Sender::new(State::Away),
            breaker: Breaker::default(),
            troubles: Default::default(),
            connections: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks for a sign of life, for 250 ms.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ping(&self) -> Result<(), Trouble> {
        const PATIENCE: Duration = Duration::from_millis(250);
        self.call_within(PATIENCE, &cmd("PING")).await.map(drop)
    }

    /// Which version it is, for people; asks for at most a second.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn version(&self) -> Result<String, Trouble> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let answer = self.call_within(PATIENCE, cmd("INFO").arg("server")).await?;
        let infos = texts_of(&answer);
        let mut lines = infos.iter().flat_map(|info| info.lines());
        let version = lines.find_map(|line| line.strip_prefix("redis_version:"));
        version.map(str::to_owned).ok_or_else(|| Trouble::odd("INFO names no version of Redis"))
    }

    /// By which `maxmemory-policy` it, or a member of a Cluster, evicts keys when it is full; none if it keeps them all.
    /// One that evicts grants no locks. Asks for at most a second.
    ///
    /// # Errors
    /// Why it is not known: of the kind [`Kind::Denied`] if this user must not ask.
    pub async fn eviction(&self) -> Result<Option<String>, Trouble> {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.evicts(PATIENCE, None).await
    }

    /// The same, if the connection still is this one.
    pub(crate) async fn evicts(
        &self,
        limit: Duration,
        line: Option<u64>,
    ) -> Result<Option<String>, Trouble> {
        const NAME: &str = "maxmemory-policy";
        let answer = self.call(limit, cmd("CONFIG").arg("GET").arg(NAME), line).await?;
        let Some(answer) = answer else { return Ok(None) };
        let mut policies = texts_of(&answer);
        policies.retain(|text| text != NAME);
        if policies.is_empty() {
            return Err(Trouble::odd("CONFIG GET names no maxmemory-policy"));
        }
        Ok(policies.into_iter().find(|policy| policy != "noeviction"))
    }

    /// Whether so much has failed in a row that it is left alone.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.breaker.is_open()
    }

    /// How often each sort of trouble was met since the start.
    pub fn troubles(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        let counts = self.shared.troubles.iter().map(|count| count.load(Ordering::Relaxed));
        Kind::ALL.into_iter().zip(counts)
    }

    /// Runs a script; a server that does not know it is told it.
    pub(crate) async fn run(&self, limit: Duration, run: &Run<'_>) -> Result<Value, Trouble> {
        let begun = SystemClock.boot();
        match self.call_within(limit, &run.by_hash()).await {
            Err(trouble) if trouble.kind == Kind::NoScript => {
                let left = limit.saturating_sub(SystemClock.boot().saturating_sub(begun));
                self.call_within(left, &run.by_text()).await
            }
            other => other,
        }
    }

    /// Sends a command, and waits for its answer; but not for longer than `limit`.
    pub(crate) async fn call_within(
        &self,
        limit: Duration,
        command: &Cmd,
    ) -> Result<Value, Trouble> {
        match self.call(limit, command, None).await? {
            Some(answer) => Ok(answer),
            None => Err(Trouble::odd("there is no such connection")),
        }
    }

    /// The number of the connection for commands; each has another one. Connects, if there is none.
    pub(crate) async fn line(&self, limit: Duration) -> Result<u64, Trouble> {
        self.guarded(async |_| {
            let live = within(&SystemClock, limit, self.shared.live()).await;
            live.ok_or_else(|| Trouble::timeout(limit))?.map(|live| live.number)
        })
        .await
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.shared.dial, Dial::Cluster(_))
    }

    /// Counts a trouble that somebody has found in an answer.
    pub(crate) fn counted(&self, trouble: Trouble) -> Trouble {
        self.shared.count(trouble)
    }

    /// Behind this connection is not who was looked for: the next who asks looks again.
    pub(crate) fn give_up(&self, line: u64, why: &Trouble) {
        self.shared.hang_up(line, why);
    }

    /// The same as [`Redis::call_within`], if the connection still is this one.
    pub(crate) async fn call_on(
        &self,
        line: u64,
        limit: Duration,
        command: &Cmd,
    ) -> Result<Option<Value>, Trouble> {
        self.call(limit, command, Some(line)).await
    }

    /// The same as [`Redis::run`], if the connection still is this one.
    pub(crate) async fn run_on(
        &self,
        line: u64,
        limit: Duration,
        run: &Run<'_>,
    ) -> Result<Option<Value>, Trouble> {
        match self.call(limit, &run.by_hash(), Some(line)).await {
            Err(trouble) if trouble.kind == Kind::NoScript => {
                self.call(limit, &run.by_text(), Some(line)).await
            }
            other => other,
        }
    }

    async fn call(
        &self,
        limit: Duration,
        command: &Cmd,
        line: Option<u64>,
    ) -> Result<Option<Value>, Trouble> {
        self.guarded(async |begun| self.shared.exchange(limit, begun, command, line).await).await
    }

    /// Asks, unless the breaker is open; and tells it how that went.
    async fn guarded<T>(
        &self,
        ask: impl AsyncFnOnce(Duration) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let shared = &self.shared;
        let begun = SystemClock.boot();
        let Some(pass) = shared.breaker.ask(begun) else {
            return Err(shared.count(Trouble::open()));
        };
        let answer = ask(begun).await;
        match &answer {
            Err(trouble) if trouble.kind.counts() => {
                shared.breaker.failed(pass, SystemClock.boot(), rand::random());
            }
            _ => shared.breaker.succeeded(),
        }
        answer.map_err(|trouble| shared.count(trouble))
    }

    /// The same for whoever only asks.
    pub(crate) async fn connect_to_each(&self) -> Result<Lines, Trouble> {
        self.listen(|_| {}).await
    }

    /// Connections of one's own, to each server that takes writes. What those say by themselves is handed
    /// over in the order in which it comes, by the task that reads it: whoever takes it must not wait.
    pub(crate) async fn listen(
        &self,
        on_push: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
    ) -> Result<Lines, Trouble> {
        let dial = &self.shared.dial;
        let connected = dial.in_time(dial.connect_to_each(on_push)).await;
        match connected {
            // Whoever was greeted knows that it works again.
            Ok(lines) => {
                self.shared.breaker.succeeded();
                Ok(lines)
            }
            Err(trouble) => Err(self.shared.count(trouble)),
        }
    }
}

impl Shared {
    async fn exchange(
        self: &Arc<Self>,
        limit: Duration,
        begun: Duration,
        command: &Cmd,
        line: Option<u64>,
    ) -> Result<Option<Value>, Trouble> {
        let late = || Trouble::timeout(limit);
        let mut live = within(&SystemClock, limit, self.live()).await.ok_or_else(late)??;
        if line.is_some_and(|line| line != live.number) {
            return Ok(None);
        }
        let left = limit.saturating_sub(SystemClock.boot().saturating_sub(begun));
        let answer = within(&SystemClock, left, live.line.send(command)).await;
        let answer = answer.map_or_else(|| Err(late()), |answer| answer.map_err(Trouble::from));
        if let Err(trouble) = &answer
            && trouble.spoils_the_line()
        {
            self.hang_up(live.number, trouble);
        }
        answer.map(Some)
    }

    /// The connection; if there is none, one is made.
    async fn live(self: &Arc<Self>) -> Result<Live, Trouble> {
        let mut state = self.state.subscribe();
        let must_connect = self.state.send_if_modified(|state| match state {
            State::Away | State::Refused(_) => {
                *state = State::Connecting;
                true
            }
            State::Connecting | State::Live(_) => false,
        });
        if must_connect {
            tokio::spawn(Arc::clone(self).connect());
        }
        let settled = state.wait_for(|state| matches!(state, State::Live(_) | State::Refused(_)));
        match settled.await.as_deref() {
            Ok(State::Live(live)) => Ok(live.clone()),
            Ok(State::Refused(trouble)) => Err(trouble.clone()),
            // Neither can be: it was waited for, and this is there.
            Ok(State::Away | State::Connecting) | Err(_) => Err(Trouble::odd("nobody connects")),
        }
    }

    async fn connect(self: Arc<Self>) {
        let connected = self.dial.in_time(self.dial.connect()).await;
        let state = match connected {
            Ok(line) => {
                self.breaker.succeeded();
                let number = self.connections.fetch_add(1, Ordering::Relaxed);
                info!(redis = %self.url, "connected to Redis");
                State::Live(Live { line, number })
            }
            Err(trouble) => State::Refused(trouble),
        };
        self.state.send_replace(state);
    }

    /// Gives this connection up, if it is still the one.
    fn hang_up(&self, number: u64, why: &Trouble) {
        let is_it = self.state.send_if_modified(|state| {
            let is_it = matches!(state, State::Live(live) if live.number == number);
            if is_it {
                *state = State::Away;
            }
            is_it
        });
        if is_it {
            warn!(redis = %self.url, error = %chain(why), "a connection to Redis was given up");
        }
    }

    fn count(&self, trouble: Trouble) -> Trouble {
        let place = Kind::ALL.iter().position(|kind| *kind == trouble.kind);
        if let Some(count) = place.and_then(|place| self.troubles.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        trouble
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

/// Spreads names over buckets, in every process and of every version the same: FNV-1a (Fowler, Noll, Vo).
pub(crate) fn spread(name: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    name.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests;
