//! Hears from Redis which values have changed, in the order in which they did: `CLIENT TRACKING ON BCAST`
//! for the keys of this cache.
//!
//! What was missed while nobody heard, nobody knows: so each link has a *life* of its own, and what was stored
//! in another one is looked up again on its first use.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, PushInfo, PushKind, Value, cmd};
use tracing::{info, warn};

use crate::{
    error::chain,
    redis::{Hearing, Redis, Trouble},
};

/// Whoever wants to hear.
pub(super) trait Listener: Send + Sync + 'static {
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

    /// Works until nobody wants to hear any more of keys that begin like this.
    pub(super) async fn run(
        self: Arc<Self>,
        redis: Redis,
        prefix: String,
        listener: Weak<dyn Listener>,
    ) {
        redis
            .hear(Arc::new(Ear { link: self, prefix, listener, has_told: AtomicBool::new(false) }))
            .await;
    }
}

struct Ear {
    link: Arc<Link>,
    prefix: String,
    listener: Weak<dyn Listener>,
    /// Whether the log says anything of it yet.
    has_told: AtomicBool,
}

impl Hearing for Ear {
    fn is_wanted(&self) -> bool {
        self.listener.strong_count() > 0
    }

    fn request(&self) -> Cmd {
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.prefix);
        track
    }

    fn begins(&self, sent: Duration) {
        self.link.hears(sent);
        self.link.life.fetch_add(1, Ordering::AcqRel);
        self.link.is_up.store(true, Ordering::Release);
        self.has_told.store(true, Ordering::Relaxed);
        info!("the link of the cache to Redis is up");
    }

    fn hears(&self, sent: Duration) {
        self.link.hears(sent);
    }

    fn said(&self, push: &PushInfo) {
        let (Some(listener), PushKind::Invalidate) = (self.listener.upgrade(), &push.kind) else {
            return;
        };
        match push.data.as_slice() {
            [Value::Array(keys)] => {
                let keys = keys.iter().filter_map(|key| match key {
                    Value::BulkString(key) => Some(key.as_slice()),
                    _ => None,
                });
                listener.changed(Some(&keys.collect::<Vec<_>>()));
            }
            _ => listener.changed(None),
        }
    }

    fn ends(&self, trouble: Option<&Trouble>) {
        let error = trouble.map(|trouble| format!("{}", chain(trouble)));
        if self.link.is_up.swap(false, Ordering::AcqRel) {
            warn!(error, "the link of the cache to Redis is down");
        } else if !self.has_told.swap(true, Ordering::Relaxed) {
            warn!(error, "the link of the cache to Redis is not up yet");
        }
    }
}
