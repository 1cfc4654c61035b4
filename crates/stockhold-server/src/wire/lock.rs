//! The JSON of locks.

use std::time::Duration;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};
use stockhold::{
    LockName,
    lock::{Fence, Granted, Held, LeaseTtl, Token},
};
use utoipa::ToSchema;

use super::{
    Cursor, Rfc3339,
    field::{Integer, LockWord},
    write,
};

/// What is asked of a lock.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Acquire)]
pub(crate) struct AcquireBody {
    /// The caller's own, random, and a new one for each attempt: the same one again is the same attempt. Whoever
    /// knows it can renew and release the lease.
    token: TokenWord,
    /// For how long.
    ttl_ms: LeaseMillis,
    /// How long to wait for one's turn; left out: not at all. For a longer wait ask again.
    wait_ms: Option<WaitMillis>,
}

impl AcquireBody {
    pub(crate) fn asked(self) -> (Token, LeaseTtl, Duration) {
        let wait = self.wait_ms.map_or(Duration::ZERO, |wait| wait.0);
        (self.token.0, self.ttl_ms.0, wait)
    }
}

/// For how long a lease is to live from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RenewLock)]
pub(crate) struct RenewBody {
    /// That of the attempt that was granted the lease.
    token: TokenWord,
    /// For how long from now.
    ttl_ms: LeaseMillis,
}

impl RenewBody {
    pub(crate) fn asked(self) -> (Token, LeaseTtl) {
        (self.token.0, self.ttl_ms.0)
    }
}

/// Who gives a lease back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReleaseLock)]
pub(crate) struct ReleaseLockBody {
    /// That of the attempt that was granted the lease.
    token: TokenWord,
}

impl ReleaseLockBody {
    pub(crate) fn token(self) -> Token {
        self.token.0
    }
}

/// The token of an attempt.
pub(crate) struct TokenWord(Token);

impl<'de> Deserialize<'de> for TokenWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = TokenWord;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TokenWord, E> {
                let fault = "must be 16 to 128 visible ASCII characters";
                Token::new(text).map(TokenWord).map_err(|_| E::custom(fault))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The life of a lease in milliseconds.
pub(crate) struct LeaseMillis(LeaseTtl);

impl<'de> Deserialize<'de> for LeaseMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (least, most) = LEASE_MILLIS;
        let duration = millis(deserializer, least, most)?;
        LeaseTtl::new(duration).map(Self).map_err(de::Error::custom)
    }
}

/// A wait in milliseconds.
pub(crate) struct WaitMillis(Duration);

impl<'de> Deserialize<'de> for WaitMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        millis(deserializer, 0, MOST_WAIT_MILLIS).map(Self)
    }
}

/// From 100 ms to 60 s.
pub(super) const LEASE_MILLIS: (i64, i64) = (100, 60_000);
/// Less than clients of HTTP usually wait for an answer: whoever wants to wait for longer asks again.
pub(super) const MOST_WAIT_MILLIS: i64 = 5_000;

fn millis<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: i64,
    most: i64,
) -> Result<Duration, D::Error> {
    let millis = deserializer.deserialize_i64(Integer { least, most })?;
    Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// Orders grants: whoever has the higher one was granted the lock later. Compare the epoch first.
#[derive(Serialize, ToSchema)]
#[schema(as = Fence)]
pub(crate) struct FenceBody {
    #[schema(minimum = 0, maximum = 9007199254740991_u64)]
    epoch: u64,
    #[schema(minimum = 0, maximum = 9007199254740991_u64)]
    seq: u64,
}

impl From<Fence> for FenceBody {
    fn from(Fence { epoch, seq }: Fence) -> Self {
        Self { epoch, seq }
    }
}

/// A lease that was granted.
#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
pub(crate) struct LeaseBody<'a> {
    #[schema(value_type = LockWord)]
    name: &'a str,
    fence: FenceBody,
    /// How long you have waited for your turn.
    #[schema(minimum = 0, maximum = 60000)]
    waited_ms: u64,
    /// In how long it ends, unless it is renewed. Count from when it was your turn, which was `waited_ms` after you
    /// asked; not from when you were answered.
    #[schema(minimum = 0, maximum = 60000)]
    expires_in_ms: u64,
}

/// A lease that lives on.
#[derive(Serialize, ToSchema)]
#[schema(as = RenewedLease)]
pub(crate) struct RenewedBody<'a> {
    #[schema(value_type = LockWord)]
    name: &'a str,
    /// In how long it ends. Count from when you asked.
    #[schema(minimum = 0, maximum = 60000)]
    expires_in_ms: u64,
}

/// A lock that was given back.
#[derive(Serialize, ToSchema)]
#[schema(as = ReleasedLock)]
pub(crate) struct ReleasedBody<'a> {
    #[schema(value_type = LockWord)]
    name: &'a str,
}

/// A lock that somebody has.
#[derive(Serialize, ToSchema)]
#[schema(as = Lock)]
pub(crate) struct LockBody<'a> {
    #[schema(value_type = LockWord)]
    name: &'a str,
    fence: FenceBody,
    /// In how long it is free, unless the lease is renewed.
    #[schema(minimum = 0, maximum = 60000)]
    expires_in_ms: u64,
    /// Since when, by the clock of whoever granted it.
    #[schema(required)]
    since: Option<Rfc3339>,
}

impl<'a> LockBody<'a> {
    fn of(held: &'a Held) -> Self {
        Self {
            name: held.name.as_str(),
            fence: held.fence.into(),
            expires_in_ms: in_millis(held.left),
            since: held.since.map(Rfc3339),
        }
    }
}

/// Some locks that somebody has, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = LockPage)]
pub(crate) struct LockPageBody<'a> {
    items: Vec<LockBody<'a>>,
    /// Where the list goes on; `null` at its end.
    #[schema(required)]
    next_cursor: Option<Cursor>,
}

/// Writes a lease that was granted.
pub(crate) fn lease(name: &LockName, granted: &Granted) -> Vec<u8> {
    let (waited_ms, expires_in_ms) = (in_millis(granted.waited), in_millis(granted.left));
    let (name, fence) = (name.as_str(), granted.fence.into());
    write(&LeaseBody { name, fence, waited_ms, expires_in_ms }, 256)
}

/// Writes a lease that lives on.
pub(crate) fn renewed(name: &LockName, ttl: LeaseTtl) -> Vec<u8> {
    write(&RenewedBody { name: name.as_str(), expires_in_ms: in_millis(ttl.get()) }, 192)
}

/// Writes that a lease has ended.
pub(crate) fn released(name: &LockName) -> Vec<u8> {
    write(&ReleasedBody { name: name.as_str() }, 192)
}

/// Writes a lock that somebody has.
pub(crate) fn held(held: &Held) -> Vec<u8> {
    write(&LockBody::of(held), 256)
}

/// Writes a page of locks; one more than fits on it says that there is another one.
pub(crate) fn lock_page(mut held: Vec<Held>, limit: usize) -> Vec<u8> {
    let has_more = held.len() > limit;
    held.truncate(limit);
    let last = held.last().filter(|_| has_more).map(|held| Cursor::of(&held.name));
    let items = held.iter().map(LockBody::of).collect();
    write(
        &LockPageBody { items, next_cursor: last },
        held.len().saturating_mul(256).saturating_add(64),
    )
}

fn in_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
