//! How an engine is set up, apart from what it is made of.

use std::time::Duration;

use crate::{Failure, FailureKind, ledger::Ledger};

/// How the engine gathers work, and how long it makes anybody wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most batches that are applied at once; 0, the default: as many as suit the ledger. A
    /// ledger that one process writes does one after the other whatever is set here; over one that
    /// many share it is 2.
    pub lanes: usize,
    /// The most commands in one transaction: 1,000.
    pub batch_commands: usize,
    /// About how many bytes of commands go into one transaction: 1 MiB.
    pub batch_bytes: usize,
    /// How long a place may wait for its turn before new ones are refused: 250 ms.
    pub max_behind: Duration,
    /// The most commands of each sort that wait at once, whatever their age: 65,536.
    pub max_waiting: usize,
    /// How long a caller waits for an answer before it is told that there is none: 5 s.
    pub command_deadline: Duration,
    /// The most holds that are expired in one go: 4,000.
    pub sweep_batch: usize,
    /// How often the ledger says that it is alive while holds are active: 1 s. It has to be well
    /// below the 3 s after which silence counts as an outage (R17).
    pub heartbeat: Duration,
    /// For how long a hold is kept after it is over: 30 days, at least 24 h, because that long its
    /// idempotency key may be sent again.
    pub retention: Duration,
    /// How often holds are looked for that need not be kept any longer: 1 h.
    pub retention_pause: Duration,
    /// How often the invariants are recomputed, as [`Engine::verify`](crate::Engine::verify) does, by one instance at a
    /// time; what is broken is logged and counted. Zero, the default: never by itself.
    pub verify_every: Duration,
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Settings {
    fn default() -> Self {
        Self {
            lanes: 0,
            batch_commands: 1_000,
            batch_bytes: 1 << 20,
            max_behind: Duration::from_millis(250),
            max_waiting: 65_536,
            command_deadline: Duration::from_secs(5),
            sweep_batch: 4_000,
            heartbeat: Duration::from_secs(1),
            retention: DAY.saturating_mul(30),
            retention_pause: HOUR,
            verify_every: Duration::ZERO,
        }
    }
}

impl Settings {
    pub(crate) fn lanes_over(&self, ledger: &dyn Ledger) -> usize {
        const SHARED: usize = 2;
        match (ledger.is_shared(), self.lanes) {
            (false, _) => 1,
            (true, 0) => SHARED,
            (true, lanes) => lanes,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        let wrong = |message| Err(Failure::new(FailureKind::Invalid, message));
        if self.batch_commands < 3 {
            return wrong("batch_commands must be at least 3: one of each sort");
        }
        if self.max_waiting == 0 || self.sweep_batch == 0 {
            return wrong("max_waiting and sweep_batch must be at least 1");
        }
        if self.heartbeat.is_zero() || self.heartbeat > Duration::from_secs(2) {
            return wrong("heartbeat must be above 0 and at most 2 s");
        }
        if self.retention < DAY {
            return wrong("retention must be at least 24 h");
        }
        if self.retention_pause.is_zero() {
            return wrong("retention_pause must be above 0");
        }
        Ok(())
    }
}
