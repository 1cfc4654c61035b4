//! Who grants locks, if several processes could: a row that all of them read.
//!
//! Redis grants faster than a database, and may forget what it has granted; so there are times when the
//! database has to. Two who grant at once would be no lock at all. One row says who grants, and in which
//! epoch; it is only ever replaced by whoever knows the epoch that was (compare-and-set). Each process reads
//! it once a second, and what Redis grants counts for as long as the last reading does: 2 s. So 2 s after the
//! row was replaced nobody goes by the old one any more.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use super::{Attempt, Held, LeaseTtl, LockName, Mode, Released, Token};
use crate::Failure;

/// How long what was read of the rule counts, from when it was asked for.
pub(super) const PERMIT: Duration = Duration::from_secs(2);
/// After so long it is read again.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(1);
/// How long leases of Redis may be relied on after somebody else grants, or Redis in another epoch.
pub(super) const UNTIL_ALL_ARE_OVER: Duration = PERMIT.saturating_add(LeaseTtl::LONGEST_GHOST);

/// Who grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantor {
    /// Nobody has yet.
    Nobody,
    /// The database that the rule is in.
    Database,
    /// Redis.
    Redis,
}

impl Grantor {
    /// As the row has it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Database => "database",
            Self::Redis => "redis",
        }
    }
}

/// Who grants locks, and in which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who does.
    pub grantor: Grantor,
    /// Rises whenever the rule is replaced.
    pub epoch: u64,
    /// Which Redis, by a mark that changes when it may have lost data; empty of a database.
    pub server: String,
    /// Whether anybody grants by it yet. Nobody does before it is opened: until then others may go by the rule before,
    /// and Redis may not know the epoch.
    pub is_open: bool,
    /// Since when the rule stands.
    pub age: Duration,
    /// In how long no lease of an earlier epoch can be alive any more.
    pub strict_in: Duration,
}

/// How a rule is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who is to grant.
    pub grantor: Grantor,
    /// Which Redis; empty of a database.
    pub server: String,
    /// How long leases of Redis may live on, if it is Redis that has granted.
    pub ghosts: Duration,
    /// Only if no process has seen Redis well for so long.
    pub unseen_for: Option<Duration>,
}

/// Leases in a database that processes share, and the rule.
///
/// Whatever is granted, renewed or released is durable when it is answered. What is asked for in another epoch
/// than that of the rule is answered with `None`: whoever asks has to read the rule again.
#[async_trait]
pub trait Leases: Debug + Send + Sync + 'static {
    /// The rule; and whether Redis is well, as this process sees it, which the others may want to know.
    ///
    /// # Errors
    /// `Unavailable`, as for all of them.
    async fn rule(&self, sees_redis: bool) -> Result<Rule, Failure>;

    /// Replaces the rule, if it still is that of this epoch. The new one, by which nobody grants before it is
    /// [`opened`](Leases::opened).
    ///
    /// # Errors
    /// `Unavailable`: then it may be replaced, or not.
    async fn replace(&self, epoch: u64, change: &Change) -> Result<Option<Rule>, Failure>;

    /// From now on locks are granted by the rule of this epoch, if it still stands; only whoever has read it may call
    /// this. What Redis has granted before may live on for as long as [`Change::ghosts`] said, counted from now. Returns
    /// the rule that stands.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn opened(&self, epoch: u64) -> Result<Rule, Failure>;

    /// See [`Backend::acquire`](super::Backend::acquire).
    ///
    /// # Errors
    /// `Unavailable`.
    async fn acquire(
        &self,
        epoch: u64,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Option<Attempt>, Failure>;

    /// Whether the lease was there to be renewed.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn renew(
        &self,
        epoch: u64,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<bool>, Failure>;

    /// Ends a lease, in whichever epoch.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, Failure>;

    /// Who has a lock, if anybody has.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn inspect(&self, name: &LockName) -> Result<Option<Held>, Failure>;

    /// Locks that somebody has, by name, behind `after`.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, Failure>;

    /// Removes what nobody needs any more; called now and then.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn forget(&self) -> Result<(), Failure>;
}
