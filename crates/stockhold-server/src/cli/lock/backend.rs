//! A server as one who grants locks.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use stockhold::{
    Failure, FailureKind, LockName,
    clock::{Clock, SystemClock},
    lock::{Attempt, Backend, Freed, Held, LeaseTtl, LockError, Mode, Released, Token},
};
use tokio::sync::Mutex;

use super::{Fence, lock};
use crate::{
    cli::{path::Path, refusal, remote::unanswered, url::Url},
    client::{Connection, Reply},
};

/// Asks a server for locks.
pub(super) struct RemoteBackend {
    connection: Mutex<Connection>,
    url: Url,
    /// How long the server lets each attempt wait for its turn, and until when on the boot clock.
    wait: Duration,
    until: Duration,
}

impl fmt::Debug for RemoteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteBackend").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Granted {
    fence: Fence,
    expires_in_ms: u64,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    code: String,
    #[serde(default)]
    expires_in_ms: u64,
}

impl RemoteBackend {
    pub(super) fn new(connection: Connection, url: Url, wait: Duration, until: Duration) -> Self {
        Self { connection: Mutex::new(connection), url, wait, until }
    }

    async fn post(&self, path: &Path, body: Value) -> Result<Reply, LockError> {
        let mut connection = self.connection.lock().await;
        let body = body.to_string().into();
        let answer = connection.send(Method::POST, path.as_str(), body, None).await;
        let unavailable =
            |fault: String| LockError::Unavailable(Failure::new(FailureKind::Unavailable, fault));
        let reply = answer.map_err(|e| unavailable(unanswered(&self.url, &e, None).to_string()))?;
        if reply.is_success() { Ok(reply) } else { Err(refused(&reply)) }
    }
}

fn refused(reply: &Reply) -> LockError {
    let told = reply.json::<Refused>();
    match told.as_ref().map(|told| told.code.as_str()) {
        Ok("lock_busy") => {
            let left = told.map_or(0, |told| told.expires_in_ms);
            LockError::Busy { left: Duration::from_millis(left) }
        }
        Ok("lease_lost") => LockError::Lost,
        _ => {
            let passes = matches!(reply.status, 429 | 503);
            let kind = if passes { FailureKind::Unavailable } else { FailureKind::Invalid };
            LockError::Unavailable(Failure::new(kind, refusal::fault(reply, None).to_string()))
        }
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    async fn acquire(
        &self,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        _: Mode,
    ) -> Result<Attempt, LockError> {
        let wait = self.until.saturating_sub(SystemClock.boot()).min(self.wait);
        let body = json!({
            "token": token.as_str(),
            "ttl_ms": millis(ttl.get()),
            "wait_ms": millis(wait),
        });
        let reply = match self.post(&lock(name), body).await {
            Ok(reply) => reply,
            Err(LockError::Busy { left }) => return Ok(Attempt::Busy(left)),
            Err(error) => return Err(error),
        };
        let Ok(Granted { fence, expires_in_ms }) = reply.json() else { return Err(strange()) };
        Ok(Attempt::Granted { fence: fence.into(), left: Duration::from_millis(expires_in_ms) })
    }

    async fn renew(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Result<(), LockError> {
        let body = json!({"token": token.as_str(), "ttl_ms": millis(ttl.get())});
        self.post(&lock(name).part("renew"), body).await.map(drop)
    }

    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, LockError> {
        let body = json!({"token": token.as_str()});
        match self.post(&lock(name).part("release"), body).await {
            Ok(_) => Ok(Released::Clean),
            Err(LockError::Lost) => Ok(Released::Expired),
            Err(error) => Err(error),
        }
    }

    /// The command line asks for these itself.
    async fn inspect(&self, _: &LockName) -> Result<Option<Held>, LockError> {
        Ok(None)
    }

    async fn list(&self, _: &str, _: Option<&LockName>, _: usize) -> Result<Vec<Held>, LockError> {
        Ok(Vec::new())
    }

    /// It is the server that waits.
    fn freed<'a>(&'a self, _: &LockName) -> Freed<'a> {
        Box::pin(std::future::pending())
    }
}

fn strange() -> LockError {
    let message = "the answer is not that of a stockhold server";
    LockError::Unavailable(Failure::new(FailureKind::Invalid, message))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
