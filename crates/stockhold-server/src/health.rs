//! Whether the server is alive, and whether it can serve.

use std::time::Duration;

use axum::extract::State;
use stockhold::{Engine, Failure, FailureKind};
use tokio::time::timeout;

use crate::{
    answer::Answer,
    problem::{Kind, Problem},
    wire::Dependency,
};

/// How long the ledger may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /livez`: whoever reads this is answered by a living process.
pub(crate) async fn live() -> Answer {
    Answer::health("live", &[])
}

/// `GET /readyz`: names what the server stands on, and its state.
pub(crate) async fn ready(State(engine): State<Engine>) -> Result<Answer, Problem> {
    if engine.alarms().is_some_and(|alarms| alarms.lost_batches > 0) {
        return Err(Problem::new(Kind::Unavailable, LOST)
            .caused_by(Failure::new(FailureKind::Unavailable, "batches were lost"))
            .dependency("ledger", "lost"));
    }
    match timeout(PATIENCE, engine.sealed()).await {
        Ok(Ok(None)) => {
            let ledger = Dependency { name: "ledger", state: "up" };
            let redis = engine.cache().redis.map(|state| Dependency { name: "redis", state });
            let all: Vec<_> = [Some(ledger), redis].into_iter().flatten().collect();
            Ok(Answer::health("ready", &all))
        }
        Ok(Ok(Some(why))) => Err(Problem::new(Kind::Unavailable, SEALED)
            .caused_by(Failure::new(FailureKind::Unavailable, why))
            .dependency("ledger", "sealed")),
        Ok(Err(failure)) => Err(Problem::new(Kind::Unavailable, NOT_READY)
            .caused_by(failure)
            .dependency("ledger", "down")),
        Err(_) => Err(Problem::new(Kind::Unavailable, NOT_READY).dependency("ledger", "silent")),
    }
}

const LOST: &str = "the ledger has lost what this server has answered; its log says more";
const NOT_READY: &str = "the ledger cannot be read";
const SEALED: &str = "the ledger is sealed: the shop moves, or has moved; the log says where to";
