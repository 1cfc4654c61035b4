//! Locks that processes share: through Redis where there is one, and through the database when Redis is
//! away.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tracing::{info, warn};

use super::{
    Attempt, Backend, Freed, Held, LeaseTtl, LockError, LockName, Mode, Released, Token,
    forgetful::Forgetful,
    rule::{Change, Grantor, Leases, PERMIT, READ_AGAIN, Rule, UNTIL_ALL_ARE_OVER},
    wakeups::Wakeups,
};
use crate::{
    Failure, FailureKind,
    clock::{Clock, within},
    error::chain,
};

/// So often a rule that has changed is read again before whoever asks is told that nobody can say.
const ATTEMPTS: usize = 64;
/// How long the database may take to say who grants.
const PATIENCE: Duration = Duration::from_secs(1);
/// Redis has to be away for so long before the database grants.
const AWAY: Duration = Duration::from_secs(1);
/// And no process may have seen it for so long.
const UNSEEN: Duration = Duration::from_secs(2);
/// It has to be well for so long before it grants again.
const WELL: Duration = Duration::from_secs(5);
/// Between two looks at a Redis that is away.
const LOOK: Duration = Duration::from_millis(250);
/// How long it may take to tell Redis of its epoch. Until it is known to have been told, nobody asks it.
const OPENING: Duration = Duration::from_secs(1);

const BY_DATABASE: &str = "locks are granted by the database";

/// Grants locks to whoever shares a ledger.
#[derive(Clone, Debug)]
pub(crate) struct SharedBackend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    leases: Arc<dyn Leases>,
    /// Redis, if there is one.
    redis: Option<Arc<dyn Forgetful>>,
    clock: Arc<dyn Clock>,
    permit: Mutex<Option<Permit>>,
    /// Of all who wait for the rule, one reads it.
    reading: tokio::sync::Mutex<()>,
    is_read_again: AtomicBool,
    is_attended: AtomicBool,
    /// Of all tasks here, one makes a new rule.
    changing: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
    is_watched: AtomicBool,
    wakeups: Arc<Wakeups>,
}

/// The rule, and for how long it can be gone by; all on the boot clock.
#[derive(Clone, Debug)]
struct Permit {
    rule: Arc<Rule>,
    read_again_at: Duration,
    until: Duration,
    strict_from: Duration,
}

/// What is known of Redis.
#[derive(Debug, Default)]
struct Health {
    failing_since: Option<Duration>,
    well_since: Option<Duration>,
    seen: Option<Duration>,
}

impl Permit {
    /// For how long leases may be relied on of which nobody knows.
    fn strict_left(&self, now: Duration) -> Option<Duration> {
        Some(self.strict_from.saturating_sub(now)).filter(|left| !left.is_zero())
    }
}

impl SharedBackend {
    pub(crate) fn new(
        leases: Arc<dyn Leases>,
        redis: Option<Arc<dyn Forgetful>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let inner = Inner {
            leases,
            redis,
            clock,
            permit: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            is_read_again: AtomicBool::default(),
            is_attended: AtomicBool::default(),
            changing: tokio::sync::Mutex::default(),
            health: Mutex::default(),
            is_watched: AtomicBool::default(),
            wakeups: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

#[async_trait]
impl Backend for SharedBackend {
    async fn acquire(
        &self,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Attempt, LockError> {
        let inner = &self.inner;
        for _ in 0..ATTEMPTS {
            let permit = inner.permit().await?;
            let told = inner.acquire(&permit, name, token, ttl, mode).await;
            if let Some(attempt) = inner.settled(&permit, told).await? {
                return Ok(attempt);
            }
        }
        Err(restless())
    }

    async fn renew(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Result<(), LockError> {
        let inner = &self.inner;
        for _ in 0..ATTEMPTS {
            let permit = inner.permit().await?;
            let told = inner.renew(&permit, name, token, ttl).await;
            let Some(is_renewed) = inner.settled(&permit, told).await? else { continue };
            if is_renewed {
                return Ok(());
            }
            // Unless it was granted by somebody who grants since the rule was read here.
            if inner.still_is_rule(&permit).await.map_err(LockError::Unavailable)? {
                return Err(LockError::Lost);
            }
        }
        Err(restless())
    }

    /// Also what was granted under another rule: nobody asks whether it still stands.
    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, LockError> {
        let inner = &self.inner;
        let permit = inner.permit().await?;
        let released = match inner.redis_of(&permit.rule).map_err(LockError::Unavailable)? {
            Some(redis) => inner.answered(redis.release(name, token).await),
            None => inner.leases.release(name, token).await,
        };
        let released = released.map_err(LockError::Unavailable)?;
        inner.wakeups.wake(name);
        Ok(released)
    }

    async fn inspect(&self, name: &LockName) -> Result<Option<Held>, LockError> {
        let inner = &self.inner;
        let permit = inner.permit().await?;
        let found = match inner.redis_of(&permit.rule).map_err(LockError::Unavailable)? {
            Some(redis) => inner.answered(redis.inspect(&permit.rule, name).await),
            None => inner.leases.inspect(name).await,
        };
        found.map_err(LockError::Unavailable)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, LockError> {
        let inner = &self.inner;
        let permit = inner.permit().await?;
        let found = match inner.redis_of(&permit.rule).map_err(LockError::Unavailable)? {
            Some(redis) => inner.answered(redis.list(&permit.rule, prefix, after, limit).await),
            None => inner.leases.list(prefix, after, limit).await,
        };
        found.map_err(LockError::Unavailable)
    }

    async fn tidy(&self) -> Result<(), LockError> {
        self.inner.leases.forget().await.map_err(LockError::Unavailable)
    }

    /// Other processes tell through Redis; without it whoever waits looks again after a while.
    fn freed<'a>(&'a self, name: &LockName) -> Freed<'a> {
        if let Some(redis) = &self.inner.redis {
            redis.listen(&self.inner.wakeups);
        }
        self.inner.wakeups.of(name)
    }
}

impl Inner {
    async fn acquire(
        self: &Arc<Self>,
        permit: &Permit,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Option<Attempt>, Failure> {
        let rule = &permit.rule;
        if !rule.is_open {
            return Ok(None);
        }
        let Some(redis) = self.redis_of(rule)? else {
            return self.leases.acquire(rule.epoch, name, token, ttl, mode).await;
        };
        match permit.strict_left(self.clock.boot()) {
            Some(left) if mode == Mode::Strict => Ok(Some(Attempt::Busy(left))),
            _ => {
                let asked = redis.acquire(rule, name, token, ttl).await;
                let has_granted = matches!(asked, Ok(Some(Attempt::Granted { .. })));
                let asked = if has_granted { self.seen(asked) } else { self.answered(asked) };
                self.told(permit, asked).await
            }
        }
    }

    async fn renew(
        self: &Arc<Self>,
        permit: &Permit,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<bool>, Failure> {
        let rule = &permit.rule;
        if !rule.is_open {
            return Ok(None);
        }
        let Some(redis) = self.redis_of(rule)? else {
            return self.leases.renew(rule.epoch, name, token, ttl).await;
        };
        self.told(permit, self.answered(redis.renew(rule, name, token, ttl).await)).await
    }

    /// What was answered; none if somebody else is to be asked, or the same one again.
    async fn settled<T>(
        self: &Arc<Self>,
        permit: &Permit,
        told: Result<Option<T>, Failure>,
    ) -> Result<Option<T>, LockError> {
        let told = told.map_err(LockError::Unavailable)?;
        if told.is_none() {
            self.outdated(permit).await?;
        }
        Ok(told)
    }

    /// Whether it is by this rule that locks are granted now, and not by one that was made since.
    async fn still_is_rule(self: &Arc<Self>, permit: &Permit) -> Result<bool, Failure> {
        Ok(self.read().await?.rule.epoch == permit.rule.epoch)
    }

    /// Redis, if it is that which grants; else the database does.
    fn redis_of(self: &Arc<Self>, rule: &Rule) -> Result<Option<&Arc<dyn Forgetful>>, Failure> {
        match rule.grantor {
            Grantor::Redis => self.redis().map(Some),
            Grantor::Database | Grantor::Nobody => Ok(None),
        }
    }

    fn redis(self: &Arc<Self>) -> Result<&Arc<dyn Forgetful>, Failure> {
        self.redis.as_ref().ok_or_else(|| {
            self.watch();
            let message = "other instances have their locks from a Redis that this one was not told of: \
                           name it here as well (--redis), or wait until those have ended";
            unavailable(message)
        })
    }

    /// What Redis has answered counts if the permit does; or still does.
    async fn told<T>(
        self: &Arc<Self>,
        permit: &Permit,
        asked: Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(told) = asked? else { return Ok(None) };
        if self.clock.boot() < permit.until {
            return Ok(Some(told));
        }
        Ok(self.still_is_rule(permit).await?.then_some(told))
    }

    /// Takes note of whether Redis is well: it grants, or could.
    fn seen<T>(self: &Arc<Self>, asked: Result<T, Failure>) -> Result<T, Failure> {
        if asked.is_ok() {
            let seen = Some(self.clock.boot());
            *self.health() = Health { seen, ..Health::default() };
        }
        self.answered(asked)
    }

    /// Takes note of failures only: a Redis that is full still answers this.
    fn answered<T>(self: &Arc<Self>, asked: Result<T, Failure>) -> Result<T, Failure> {
        if asked.is_err() {
            let now = self.clock.boot();
            let mut health = self.health();
            health.failing_since.get_or_insert(now);
            health.well_since = None;
            drop(health);
            self.watch();
        }
        asked
    }

    /// The rule, as it was read within the last 2 s.
    async fn permit(self: &Arc<Self>) -> Result<Permit, LockError> {
        self.attend();
        let now = self.clock.boot();
        match self.last_permit() {
            Some(permit) if now < permit.read_again_at => Ok(permit),
            Some(permit) if now < permit.until => {
                self.read_behind();
                Ok(permit)
            }
            _ => self.read_in_turn().await.map_err(LockError::Unavailable),
        }
    }

    /// Of all who need it at once, one reads.
    async fn read_in_turn(self: &Arc<Self>) -> Result<Permit, Failure> {
        let _turn = within(&*self.clock, PATIENCE, self.reading.lock()).await;
        match self.last_permit().filter(|permit| self.clock.boot() < permit.until) {
            Some(permit) => Ok(permit),
            None => self.read().await,
        }
    }

    /// From when a lock was first asked for, the rule is read once a second, and the others are told whether Redis is
    /// well as this process sees it: also while nobody here asks for locks. Without a Redis there is nothing to tell.
    fn attend(self: &Arc<Self>) {
        let is_attended = || self.is_attended.load(Ordering::Acquire);
        if self.redis.is_some() && !is_attended() && !self.is_attended.swap(true, Ordering::AcqRel)
        {
            let (inner, clock) = (Arc::downgrade(self), Arc::clone(&self.clock));
            tokio::spawn(async move {
                loop {
                    clock.sleep(READ_AGAIN).await;
                    let Some(inner) = inner.upgrade() else { return };
                    inner.look_around().await;
                }
            });
        }
    }

    async fn look_around(self: &Arc<Self>) {
        let is_granting = |permit: Permit| permit.rule.grantor == Grantor::Redis;
        if let Some(redis) = &self.redis
            && self.last_permit().is_some_and(is_granting)
        {
            // What this says is noted. The others believe it gone after two seconds: one answer that is late is not
            // to be taken for that.
            if self.seen(redis.server().await).is_err() {
                let _ = self.seen(redis.server().await);
            }
        }
        // Whoever cannot do without the rule is told why.
        let _ = self.read().await;
    }

    fn last_permit(&self) -> Option<Permit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read_behind(self: &Arc<Self>) {
        if !self.is_read_again.swap(true, Ordering::AcqRel) {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                // Whoever cannot do without it is told why.
                let _ = inner.read().await;
                inner.is_read_again.store(false, Ordering::Release);
            });
        }
    }

    async fn read(self: &Arc<Self>) -> Result<Permit, Failure> {
        let sent = self.clock.boot();
        let sees_redis = {
            let health = self.health();
            let recently = |seen| sent.saturating_sub(seen) < READ_AGAIN;
            health.failing_since.is_none() && health.seen.is_some_and(recently)
        };
        let rule = within(&*self.clock, PATIENCE, self.leases.rule(sees_redis)).await;
        let rule = rule.unwrap_or_else(|| Err(unavailable("the database does not answer")))?;
        Ok(self.adopt(rule, sent))
    }

    /// Goes by this rule from now on, unless a newer one is known.
    fn adopt(self: &Arc<Self>, rule: Rule, sent: Duration) -> Permit {
        let permit = Permit {
            read_again_at: sent.saturating_add(READ_AGAIN),
            until: sent.saturating_add(PERMIT),
            strict_from: self.clock.boot().saturating_add(rule.strict_in),
            rule: Arc::new(rule),
        };
        let mut last = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = last
            .as_ref()
            .is_none_or(|last| (last.rule.epoch, last.until) <= (permit.rule.epoch, permit.until));
        if is_newer {
            *last = Some(permit.clone());
        }
        drop(last);
        if self.redis.is_some() && permit.rule.grantor == Grantor::Database {
            self.watch();
        }
        permit
    }

    /// Whoever grants knows of another epoch: the rule has changed, or it has lost its memory.
    async fn outdated(self: &Arc<Self>, permit: &Permit) -> Result<(), LockError> {
        let _changing = within(&*self.clock, PATIENCE, self.changing.lock()).await;
        let of = |permit: &Permit| (permit.rule.epoch, permit.rule.is_open);
        let is_same = |now: &Permit| of(now) == of(permit);
        if self.last_permit().is_some_and(|last| !is_same(&last)) {
            return Ok(());
        }
        let now = self.read().await.map_err(LockError::Unavailable)?;
        if !is_same(&now) {
            return Ok(());
        }
        match now.rule.grantor {
            Grantor::Nobody => self.begin(&now.rule).await,
            // Whoever has made it may have died since.
            Grantor::Database if !now.rule.is_open => self.open(now.rule.epoch, BY_DATABASE).await,
            // It has not changed: the database has answered to an older reading.
            Grantor::Database => Ok(()),
            // Somebody else tells it, or has died at that.
            Grantor::Redis if !now.rule.is_open && now.rule.age < OPENING => {
                self.clock.sleep(OPENING / 50).await;
                Ok(())
            }
            Grantor::Redis => {
                warn!(
                    epoch = now.rule.epoch,
                    "Redis has lost locks, or may have: a new epoch begins"
                );
                self.open_redis(&now.rule).await
            }
        }
        .map_err(LockError::Unavailable)
    }

    /// The first rule of all.
    async fn begin(self: &Arc<Self>, old: &Rule) -> Result<(), Failure> {
        let Some(redis) = &self.redis else { return self.fall_back(old, None).await };
        match self.seen(redis.server().await) {
            Ok(_) => self.open_redis(old).await,
            Err(_) => self.fall_back(old, None).await,
        }
    }

    /// From now on Redis grants, in an epoch that it is told of once.
    async fn open_redis(self: &Arc<Self>, old: &Rule) -> Result<(), Failure> {
        let redis = self.redis()?;
        let server = self.seen(redis.server().await)?;
        let change = Change {
            grantor: Grantor::Redis,
            server,
            ghosts: UNTIL_ALL_ARE_OVER,
            unseen_for: None,
        };
        let Some(rule) = self.leases.replace(old.epoch, &change).await? else {
            return self.read().await.map(drop);
        };
        if let Err(failure) = self.seen(redis.open(&rule).await) {
            // It may have been told in part: this epoch is never opened.
            warn!(error = %chain(&failure), "Redis cannot grant locks");
            return self.fall_back(&rule, None).await;
        }
        self.open(rule.epoch, "locks are granted by Redis").await
    }

    /// From now on the database grants.
    async fn fall_back(
        self: &Arc<Self>,
        old: &Rule,
        unseen_for: Option<Duration>,
    ) -> Result<(), Failure> {
        let change = Change {
            grantor: Grantor::Database,
            server: String::new(),
            ghosts: UNTIL_ALL_ARE_OVER,
            unseen_for,
        };
        match self.leases.replace(old.epoch, &change).await? {
            Some(rule) => self.open(rule.epoch, BY_DATABASE).await,
            None => self.read().await.map(drop),
        }
    }

    /// From now on locks are granted by the rule of this epoch, unless it was replaced meanwhile.
    async fn open(self: &Arc<Self>, epoch: u64, news: &str) -> Result<(), Failure> {
        let sent = self.clock.boot();
        let rule = self.leases.opened(epoch).await?;
        if rule.epoch == epoch {
            info!(epoch, "{news}");
        }
        self.adopt(rule, sent);
        Ok(())
    }

    /// Looks at Redis until there is nothing to look for any more.
    fn watch(self: &Arc<Self>) {
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            let (inner, clock) = (Arc::downgrade(self), Arc::clone(&self.clock));
            tokio::spawn(async move {
                while Self::look(&inner).await {
                    clock.sleep(LOOK).await;
                }
            });
        }
    }

    /// Whether to look again.
    async fn look(inner: &Weak<Self>) -> bool {
        let Some(inner) = inner.upgrade() else { return false };
        let goes_on = inner.judge().await.unwrap_or(true);
        if !goes_on {
            inner.is_watched.store(false, Ordering::Release);
        }
        goes_on
    }

    async fn judge(self: &Arc<Self>) -> Result<bool, Failure> {
        let server = match &self.redis {
            Some(redis) => redis.server().await,
            None => Err(unavailable("there is no Redis here")),
        };
        let now = self.clock.boot();
        let (away, well) = self.health().note(server.is_ok(), now);
        let permit = match self.last_permit() {
            Some(permit) if now < permit.read_again_at => permit,
            _ => self.read().await?,
        };
        let _changing = within(&*self.clock, PATIENCE, self.changing.lock()).await;
        match permit.rule.grantor {
            Grantor::Redis if away >= AWAY && self.is_gone().await => {
                self.fall_back(&permit.rule, Some(UNSEEN)).await?;
                // If others see it, whoever asks here is told that it is away, until it is not.
                Ok(true)
            }
            Grantor::Redis => Ok(server.is_err()),
            Grantor::Database if well >= WELL => {
                self.open_redis(&permit.rule).await?;
                Ok(false)
            }
            Grantor::Database => Ok(self.redis.is_some()),
            Grantor::Nobody => Ok(false),
        }
    }

    async fn is_gone(&self) -> bool {
        match &self.redis {
            Some(redis) => redis.is_gone().await,
            None => true,
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// For how long Redis has been away by now, and for how long well.
    fn note(&mut self, is_well: bool, now: Duration) -> (Duration, Duration) {
        let (since, other) = if is_well {
            self.seen = Some(now);
            (&mut self.well_since, &mut self.failing_since)
        } else {
            (&mut self.failing_since, &mut self.well_since)
        };
        *other = None;
        let lasted = now.saturating_sub(*since.get_or_insert(now));
        if is_well { (Duration::ZERO, lasted) } else { (lasted, Duration::ZERO) }
    }
}

fn restless() -> LockError {
    LockError::Unavailable(unavailable("who grants locks changes all the time"))
}

fn unavailable(message: &str) -> Failure {
    Failure::new(FailureKind::Unavailable, message)
}
