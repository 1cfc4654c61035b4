//! Whoever grants locks fast, and may forget them: what is asked of Redis.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;

use super::{Attempt, Held, LeaseTtl, LockName, Released, Token, rule::Rule, wakeups::Wakeups};
use crate::Failure;

/// Grants fast, and may forget what it has granted.
///
/// What is asked for under another rule than the one that it was told of is answered with `None`; so is what is
/// asked for when it may have forgotten anything.
#[async_trait]
pub(crate) trait Forgetful: Debug + Send + Sync + 'static {
    /// A mark that changes when it may have lost data. Also a sign of life.
    async fn server(&self) -> Result<String, Failure>;
    /// Whether it is really gone: looked at anew, and with patience. One whose answers are only late on a busy machine is
    /// not.
    async fn is_gone(&self) -> bool;
    /// Tells it of a new rule. Called once for each, by whoever has made it; never again, whether it succeeds or
    /// not.
    async fn open(&self, rule: &Rule) -> Result<(), Failure>;
    async fn acquire(
        &self,
        rule: &Rule,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<Attempt>, Failure>;
    async fn renew(
        &self,
        rule: &Rule,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<bool>, Failure>;
    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, Failure>;
    async fn inspect(&self, rule: &Rule, name: &LockName) -> Result<Option<Held>, Failure>;
    async fn list(
        &self,
        rule: &Rule,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, Failure>;
    /// From now on it says which locks are free.
    fn listen(&self, wakeups: &Arc<Wakeups>);
}
