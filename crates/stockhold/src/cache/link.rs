//! Hears from Redis which values have changed, in the order in which they did.
//!
//! A connection of its own to each server that takes writes, with `CLIENT TRACKING ON BCAST` for the keys
//! of this cache. A sign of life is asked for twice a second; without one for 1.5 s the link counts as
//! down. What was missed while it was, nobody knows: so each link has a *life* of its own, and what was
//! stored in another one is looked up again on its first use.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection, cmd};
use tracing::{info, warn};

use crate::{
    clock::{Clock, SystemClock, within},
    error::chain,
    redis::{Redis, Trouble},
};

/// Between two signs of life.
const PING: Duration = Duration::from_millis(500);
/// Without one for so long, it counts as down.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Between two attempts to connect, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_millis(500);

/// Whoever wants to hear.
pub(super) trait Listener: Send + Sync + 'static {
    /// What all keys of interest begin with.
    fn prefix(&self) -> String;
    /// These have changed; none: nobody knows which.
    fn changed(&self, keys: Option<&[&[u8]]>);
}

/// In this life of the link, whatever was said before this moment of the boot clock has been heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) life: u64,
    pub(super) until: Duration,
}

/// Whether anybody would tell, and since when.
#[derive(Debug, Default)]
pub(super) struct Link {
    is_up: AtomicBool,
    life: AtomicU64,
    /// When the last sign of life that was answered was sent, in milliseconds of the boot clock.
    heard: AtomicU64,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// None while it is down.
    pub(super) fn heard(&self) -> Option<Heard> {
        let life = self.life();
        let until = Duration::from_millis(self.heard.load(Ordering::Acquire));
        // Of the same life: each begins with a moment of its own.
        (self.is_up() && self.life() == life).then_some(Heard { life, until })
    }

    fn hears(&self, sent: Duration) {
        let millis = u64::try_from(sent.as_millis()).unwrap_or(0);
        self.heard.store(millis, Ordering::Release);
    }

    /// Works until nobody wants to hear any more.
    pub(super) async fn run(self: Arc<Self>, redis: Redis, listener: Weak<dyn Listener>) {
        let mut pause = PAUSE;
        while listener.strong_count() > 0 {
            match self.live(&redis, &listener).await {
                Ok(()) => return,
                Err(trouble) => {
                    if self.is_up.swap(false, Ordering::AcqRel) {
                        warn!(error = %chain(&trouble), "the link of the cache to Redis is down");
                        pause = PAUSE;
                    }
                }
            }
            SystemClock.sleep(pause).await;
            pause = pause.saturating_mul(2).min(MOST_PAUSE);
        }
    }

    /// One life, from connecting to the end.
    async fn live(
        self: &Arc<Self>,
        redis: &Redis,
        listener: &Weak<dyn Listener>,
    ) -> Result<(), Trouble> {
        let Some(prefix) = listener.upgrade().map(|listener| listener.prefix()) else {
            return Ok(());
        };
        let link = Arc::downgrade(self);
        let on_push = {
            let listener = Weak::clone(listener);
            move |push: PushInfo| {
                if let Some(link) = link.upgrade()
                    && let Some(listener) = listener.upgrade()
                {
                    link.take(&push, &*listener);
                }
            }
        };
        let mut lines = redis.listen(on_push).await?;
        for line in &mut lines {
            let mut track = cmd("CLIENT");
            track.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&prefix);
            exchange(line, &track).await?;
        }
        let sent = SystemClock.boot();
        self.hears(sent);
        self.life.fetch_add(1, Ordering::AcqRel);
        self.is_up.store(true, Ordering::Release);
        info!("the link of the cache to Redis is up");
        while listener.strong_count() > 0 {
            SystemClock.sleep(PING).await;
            let sent = SystemClock.boot();
            for line in &mut lines {
                exchange(line, &cmd("PING")).await?;
            }
            self.hears(sent);
        }
        Ok(())
    }

    /// In the order in which the server has said it.
    fn take(&self, push: &PushInfo, listener: &dyn Listener) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                let keys = keys.iter().filter_map(|key| match key {
                    Value::BulkString(key) => Some(key.as_slice()),
                    _ => None,
                });
                listener.changed(Some(&keys.collect::<Vec<_>>()));
            }
            (PushKind::Invalidate, _) => listener.changed(None),
            // Nobody would tell from now on.
            (PushKind::Disconnection, _) => self.is_up.store(false, Ordering::Release),
            _ => {}
        }
    }
}

async fn exchange(line: &mut MultiplexedConnection, command: &::redis::Cmd) -> Result<(), Trouble> {
    let left = SILENCE.saturating_sub(PING);
    let answer = within(&SystemClock, left, command.exec_async(line)).await;
    answer.map_or_else(|| Err(Trouble::timeout(left)), |answer| answer.map_err(Trouble::from))
}
