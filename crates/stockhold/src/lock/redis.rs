//! Leases in Redis: fast, and gone when it loses its data.
//!
//! Locks are spread over buckets, which in a Cluster have one home each. Beside its leases each bucket has the
//! rule that it was told of: the epoch, and the number of its last grant. Whoever asks in another epoch is
//! refused, and so is everybody when the rule is gone.
//!
//! What Redis may have lost it does not say. A server that was started anew, or is another one since a failover,
//! has another replication id: so that is looked at on each new connection, and only this connection is used.

use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, PushInfo, PushKind, Value, cmd};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use stockhold_core::Timestamp;
use tracing::warn;

use super::{
    Attempt, Fence, Held, LeaseTtl, LockName, Released, Token, forgetful::Forgetful, rule::Rule,
    wakeups::Wakeups,
};
use crate::{
    Failure, FailureKind,
    clock::{Clock, SystemClock, within},
    error::chain,
    redis::{Hearing, Kind, Redis, Run, Script, Trouble, duration, millis, spread, text, texts_of},
};

static ACQUIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/acquire.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/renew.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));
static OPEN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/open.lua")));
static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/probe.lua")));
static INSPECT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/inspect.lua")));

/// Locks are spread over so many buckets.
const BUCKETS: u64 = 16;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_millis(100);
/// And all that a question takes for which that was not enough: with connecting, and looking who is there.
const QUESTION: Duration = Duration::from_millis(200);
/// How long an answer may take when it is told of an epoch: who is told that this has failed makes another one.
const OPENING: Duration = Duration::from_millis(500);
/// How long a look at all leases may take.
const LISTING: Duration = Duration::from_secs(5);
/// So many keys are looked at in one step of that.
const STEP: usize = 1_000;
/// As often a connection may be another one since it was looked at.
const ATTEMPTS: usize = 3;

/// Leases under one prefix.
#[derive(Debug)]
pub(crate) struct RedisLeases {
    redis: Redis,
    namespace: String,
    checked: Mutex<Option<Arc<Checked>>>,
    /// When a connection was given up last because a replica is behind it; in milliseconds on the boot clock.
    given_up_at: AtomicU64,
    /// Until when it is not asked whether it evicts, since nobody could say; in milliseconds on the boot clock.
    unknown_until: AtomicU64,
    listens: AtomicBool,
}

/// A connection behind which somebody is who is known.
#[derive(Clone, Debug)]
struct Checked {
    line: u64,
    server: String,
    /// On the boot clock.
    at: Duration,
}

/// A connection to a replica is given up so often at most.
const GIVEN_UP_AGAIN: Duration = Duration::from_secs(5);
/// A Redis that does not say whether it evicts is asked again after so long.
const UNKNOWN: Duration = Duration::from_secs(60);
/// So often it is looked at again: a server can become a replica and a primary again behind one connection.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl RedisLeases {
    pub(crate) fn new(redis: Redis, namespace: String) -> Self {
        Self {
            redis,
            namespace,
            checked: Mutex::default(),
            given_up_at: AtomicU64::default(),
            unknown_until: AtomicU64::default(),
            listens: AtomicBool::default(),
        }
    }

    /// Runs it where the rule says, if that is what is there.
    async fn ask(&self, rule: &Rule, run: &Run<'_>) -> Result<Option<Value>, Failure> {
        // Mostly one answer is all, and has its own limit: a timer less, of which each costs as much as a command.
        if let Some(checked) = self.checked_lately().filter(|last| last.server == rule.server)
            && let Some(answer) =
                self.redis.run_on(checked.line, ANSWER, run).await.map_err(Refused::from)?
        {
            return Ok(Some(answer));
        }
        within_question(self.ask_within(ANSWER, rule, run)).await
    }

    async fn ask_within(
        &self,
        limit: Duration,
        rule: &Rule,
        run: &Run<'_>,
    ) -> Result<Option<Value>, Refused> {
        // One that was known a moment ago may be another one by now, of which the rule speaks.
        let known = self.checked_lately().filter(|last| last.server == rule.server);
        let mut checked = match known {
            Some(last) => last,
            None => self.check().await?,
        };
        for _ in 0..ATTEMPTS {
            if checked.server != rule.server {
                return Ok(None);
            }
            if let Some(answer) = self.redis.run_on(checked.line, limit, run).await? {
                return Ok(Some(answer));
            }
            checked = self.check().await?;
        }
        Err(restless().into())
    }

    /// A connection that was looked at.
    async fn checked(&self) -> Result<Arc<Checked>, Refused> {
        match self.checked_lately() {
            Some(last) => Ok(last),
            None => self.check().await,
        }
    }

    /// If the connection is another one by now, nothing is sent over it.
    fn checked_lately(&self) -> Option<Arc<Checked>> {
        let last = self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.filter(|last| SystemClock.boot().saturating_sub(last.at) < LOOK_AGAIN)
    }

    async fn check(&self) -> Result<Arc<Checked>, Refused> {
        let (line, at) = (self.redis.line(ANSWER).await?, SystemClock.boot());
        self.check_keeps_all(line).await?;
        let server = self.server_behind(line).await?;
        let checked = Arc::new(Checked { line, server, at });
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&checked));
        Ok(checked)
    }

    /// One that evicts keys when it is full evicts leases.
    async fn check_keeps_all(&self, line: u64) -> Result<(), Refused> {
        let now = SystemClock.boot();
        if millis(now) < self.unknown_until.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.redis.evicts(ANSWER, Some(line)).await {
            Ok(None) => Ok(()),
            Ok(Some(policy)) => Err(Refused::Evicts(policy)),
            Err(trouble) if matches!(trouble.kind, Kind::Denied | Kind::Odd) => {
                warn!(
                    error = %chain(&trouble),
                    "nobody can say whether this Redis evicts keys, and locks with them: \
                              its maxmemory-policy has to be noeviction"
                );
                self.unknown_until.store(millis(now.saturating_add(UNKNOWN)), Ordering::Relaxed);
                Ok(())
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Its replication id is another one whenever its data may be. That of a replica is that of its primary, and says
    /// nothing of what the replica has: one that is promoted a moment later would be taken for the primary.
    async fn server_behind(&self, line: u64) -> Result<String, Refused> {
        let found = self.redis.call_on(line, ANSWER, cmd("INFO").arg("replication")).await?;
        let texts: Vec<_> = found.iter().flat_map(texts_of).collect();
        let is_replica = |text: &String| text.lines().any(|line| line == "role:slave");
        if texts.iter().any(is_replica) {
            return Err(self.replica_behind(line).into());
        }
        let ids = texts.iter().flat_map(|text| text.lines());
        let mut ids: Vec<_> = ids.filter_map(|line| line.strip_prefix("master_replid:")).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Err(Trouble::odd("INFO names no replication id").into());
        }
        Ok(ids.join(" "))
    }

    /// Behind another connection may be the primary; but one that leads to a replica each time is not given up at each
    /// look.
    fn replica_behind(&self, line: u64) -> Trouble {
        let trouble = self.redis.counted(Trouble::replica());
        let (now, pause) = (millis(SystemClock.boot()), millis(GIVEN_UP_AGAIN));
        if self.given_up_at.load(Ordering::Relaxed).saturating_add(pause) <= now {
            self.given_up_at.store(now, Ordering::Relaxed);
            self.redis.give_up(line, &trouble);
        }
        trouble
    }

    fn keys(&self, name: &LockName) -> [String; 2] {
        let (namespace, bucket) = (&self.namespace, bucket_of(name));
        [format!("lock{{{namespace}/{bucket}}}={name}"), self.rule_of(bucket)]
    }

    /// What tells whether it could grant. In a Cluster buckets have different homes.
    fn probes(&self) -> Vec<Run<'static>> {
        let buckets = if self.redis.is_cluster() { BUCKETS } else { 1 };
        let key = |bucket| format!("{}probe", self.rule_of(bucket));
        (0..buckets).map(|bucket| PROBE.on(&[key(bucket)])).collect()
    }

    fn rule_of(&self, bucket: u64) -> String {
        format!("rule{{{}/{bucket}}}", self.namespace)
    }

    fn channel_of(&self, bucket: u64) -> String {
        format!("freed{{{}/{bucket}}}", self.namespace)
    }

    /// The names of all leases that begin with this. Redis is asked step by step: others are served meanwhile.
    async fn names(&self, prefix: &str) -> Result<Vec<LockName>, Trouble> {
        let mut names = Vec::new();
        let pattern = format!("lock{{{}/*}}={}*", escaped(&self.namespace), escaped(prefix));
        for line in &mut self.redis.connect_to_each().await?.each {
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
                let (next, keys): (String, Vec<String>) = scan.query_async(line).await?;
                let found = keys.iter().filter_map(|key| key.split_once("}=")?.1.parse().ok());
                names.extend(found);
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

#[async_trait]
impl Forgetful for RedisLeases {
    async fn server(&self) -> Result<String, Failure> {
        let alive = async {
            let mut checked = self.checked().await?;
            for _ in 0..ATTEMPTS {
                let probes = self.probes();
                let asked = probes.iter().map(|run| self.redis.run_on(checked.line, ANSWER, run));
                if try_join_all(asked).await?.iter().all(Option::is_some) {
                    return Ok(checked.server.clone());
                }
                checked = self.check().await?;
            }
            Err(restless().into())
        };
        within_question(alive).await
    }

    async fn is_gone(&self) -> bool {
        let alive = async {
            // Also if so much has failed that nobody is asked.
            for line in &mut self.redis.connect_to_each().await?.each {
                cmd("PING").exec_async(line).await?;
            }
            if let Err(refused) = self.check().await
                && refused.is_final()
            {
                return Ok(false);
            }
            let probes = self.probes();
            let probed =
                try_join_all(probes.iter().map(|run| self.redis.run(LOOK_AGAIN, run))).await;
            Ok::<_, Trouble>(!probed.map_err(Refused::from).is_err_and(|why| why.is_final()))
        };
        !matches!(within(&SystemClock, LOOK_AGAIN, Box::pin(alive)).await, Some(Ok(true)))
    }

    async fn open(&self, rule: &Rule) -> Result<(), Failure> {
        for bucket in 0..BUCKETS {
            let run = OPEN.on(&[self.rule_of(bucket)]).arg(rule.epoch);
            let answer = self.ask_within(OPENING, rule, &run).await?;
            let answer =
                answer.ok_or_else(|| unavailable("it is another Redis than a moment ago"))?;
            if text(answer).as_deref() != Some("open") {
                return Err(unavailable("Redis was told of a later epoch meanwhile"));
            }
        }
        Ok(())
    }

    async fn acquire(
        &self,
        rule: &Rule,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<Attempt>, Failure> {
        let keys = self.keys(name);
        let run = ACQUIRE.on(&keys).arg(token.as_str()).arg(millis(ttl.get())).arg(rule.epoch);
        let Some(answer) = self.ask(rule, &run).await? else { return Ok(None) };
        attempt(answer, rule.epoch).ok_or_else(|| strange("acquire"))
    }

    async fn renew(
        &self,
        rule: &Rule,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<bool>, Failure> {
        let keys = self.keys(name);
        let run = RENEW.on(&keys).arg(token.as_str()).arg(millis(ttl.get())).arg(rule.epoch);
        let Some(answer) = self.ask(rule, &run).await? else { return Ok(None) };
        match text(answer).as_deref() {
            Some("renewed") => Ok(Some(true)),
            Some("lost") => Ok(Some(false)),
            Some("epoch") => Ok(None),
            _ => Err(strange("renew")),
        }
    }

    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, Failure> {
        let [lease, _] = self.keys(name);
        let channel = self.channel_of(bucket_of(name));
        let run = RELEASE.on(&[lease]).arg(token.as_str()).arg(channel).arg(name.as_str());
        let answer = self.redis.run(ANSWER, &run).await.map_err(Refused::from)?;
        match text(answer).as_deref() {
            Some("clean") => Ok(Released::Clean),
            Some("expired") => Ok(Released::Expired),
            Some("superseded") => Ok(Released::Superseded),
            _ => Err(strange("release")),
        }
    }

    async fn inspect(&self, rule: &Rule, name: &LockName) -> Result<Option<Held>, Failure> {
        let run = INSPECT.on(&self.keys(name)).arg(rule.epoch);
        let Some(answer) = self.ask(rule, &run).await? else { return Ok(None) };
        held(answer, name).ok_or_else(|| strange("inspect"))
    }

    async fn list(
        &self,
        rule: &Rule,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, Failure> {
        let listing = async {
            let names = self.names(prefix).await.map_err(Refused::from)?;
            let mut leases = Vec::new();
            for name in names.iter().filter(|name| after.is_none_or(|after| *name > after)) {
                if leases.len() == limit {
                    break;
                }
                leases.extend(self.inspect(rule, name).await?);
            }
            Ok(leases)
        };
        let listed = within(&SystemClock, LISTING, Box::pin(listing)).await;
        listed.unwrap_or_else(|| Err(Refused::from(Trouble::timeout(LISTING)).into()))
    }

    fn listen(&self, wakeups: &Arc<Wakeups>) {
        if !self.listens.swap(true, Ordering::AcqRel) {
            let channels = (0..BUCKETS).map(|bucket| self.channel_of(bucket)).collect();
            let ear = Ear { channels, wakeups: Arc::downgrade(wakeups) };
            tokio::spawn(self.redis.clone().hear(Arc::new(ear)));
        }
    }
}

/// Hears which locks are free.
struct Ear {
    channels: Vec<String>,
    wakeups: Weak<Wakeups>,
}

impl Hearing for Ear {
    fn is_wanted(&self) -> bool {
        self.wakeups.strong_count() > 0
    }

    fn request(&self) -> Cmd {
        let mut subscribe = cmd("SUBSCRIBE");
        subscribe.arg(&self.channels);
        subscribe
    }

    /// What was said before, nobody has heard.
    fn begins(&self, _: Duration) {
        if let Some(wakeups) = self.wakeups.upgrade() {
            wakeups.wake_all();
        }
    }

    fn hears(&self, _: Duration) {}

    fn said(&self, push: &PushInfo) {
        if let (PushKind::Message, [_, Value::BulkString(name)]) = (&push.kind, &*push.data)
            && let Some(wakeups) = self.wakeups.upgrade()
            && let Some(name) = str::from_utf8(name).ok().and_then(|name| name.parse().ok())
        {
            wakeups.wake(&name);
        }
    }

    /// Whoever waits looks again after a while in any case.
    fn ends(&self, _: Option<&Trouble>) {}
}

/// Why Redis grants nothing.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("Redis does not answer about locks")]
    Trouble(#[from] Trouble),
    #[error(
        "this Redis has maxmemory-policy {0}: when it is full it evicts keys, and locks with them; set it to \
         noeviction"
    )]
    Evicts(String),
}

impl Refused {
    /// Whether it is surely not only late: it answers, and grants nothing.
    const fn is_final(&self) -> bool {
        match self {
            Self::Evicts(_) => true,
            Self::Trouble(trouble) => matches!(
                trouble.kind,
                Kind::ReadOnly
                    | Kind::Full
                    | Kind::Misconfigured
                    | Kind::Moved
                    | Kind::ClusterDown
                    | Kind::Denied
            ),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Trouble(trouble) => {
                unavailable("Redis does not say who has a lock").caused_by(trouble)
            }
            evicts @ Refused::Evicts(_) => unavailable(evicts.to_string()),
        }
    }
}

async fn within_question<T>(asked: impl Future<Output = Result<T, Refused>>) -> Result<T, Failure> {
    let answer = within(&SystemClock, QUESTION, asked).await;
    Ok(answer.unwrap_or_else(|| Err(Trouble::timeout(QUESTION).into()))?)
}

fn restless() -> Trouble {
    Trouble::odd("the connection to Redis is another one each time")
}

fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unavailable, message)
}

fn strange(script: &str) -> Failure {
    unavailable(format!("Redis has answered {script} with something else"))
}

fn bucket_of(name: &LockName) -> u64 {
    spread(name.as_str().as_bytes()) % BUCKETS
}

fn attempt(answer: Value, epoch: u64) -> Option<Option<Attempt>> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    match text(parts.next()?)?.as_str() {
        "granted" => {
            let seq = text(parts.next()?)?.parse().ok()?;
            let fence = Fence { epoch, seq };
            Some(Some(Attempt::Granted { fence, left: duration(parts.next()?)? }))
        }
        "busy" => Some(Some(Attempt::Busy(duration(parts.next()?)?))),
        "epoch" => Some(None),
        _ => None,
    }
}

/// None: this makes no sense.
fn held(answer: Value, name: &LockName) -> Option<Option<Held>> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    let Some(epoch) = parts.next() else { return Some(None) };
    let epoch = text(epoch)?.parse().ok()?;
    let fence = Fence { epoch, seq: text(parts.next()?)?.parse().ok()? };
    let since = text(parts.next()?)?.parse().ok().map(Timestamp::from_millis);
    Some(Some(Held { name: name.clone(), fence, left: duration(parts.next()?)?, since }))
}

/// As a pattern that is this text.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if "*?[]^\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests;
