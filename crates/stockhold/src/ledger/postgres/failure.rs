//! What Postgres' errors mean for the caller: the one place that knows.

use tokio_postgres::{Error, error::SqlState};

use super::rows::Damaged;
use crate::{Failure, FailureKind};

/// Why something was not done in the ledger.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Because of certain rows: a guard of the schema, a value that cannot be read.
    Rows(Failure),
    /// Another transaction was first. Done again, it meets what that one wrote.
    Raced(Failure),
    /// Somebody has a row locked for longer than anybody should.
    Locked(Failure),
    /// A statement took longer than its time-out.
    Late(Failure),
    /// Holds that were taken to be active have ended, or were given more time.
    Outdated(Failure),
    /// Whatever the rows are: the ledger cannot be reached, is full, read-only, ...
    Away(Failure),
}

impl Trouble {
    /// For whoever only reads, and does not care why not.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Rows(failure)
            | Self::Raced(failure)
            | Self::Locked(failure)
            | Self::Late(failure)
            | Self::Outdated(failure)
            | Self::Away(failure) => failure,
        }
    }

    /// What takes long while rows are locked is somebody who has them.
    pub(super) fn of_locking(self) -> Self {
        match self {
            Self::Late(failure) => Self::Locked(failure),
            other => other,
        }
    }

    /// Holds that were read, and not only remembered, are what they are: then their rows are damaged.
    pub(super) fn of_writing(self, trusts: bool) -> Self {
        match self {
            Self::Outdated(failure) if trusts => Self::Raced(failure),
            Self::Outdated(failure) => Self::Rows(failure),
            other => other,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Away(failure)
    }
}

impl From<Damaged> for Trouble {
    fn from(Damaged(what): Damaged) -> Self {
        let failure = Failure::new(FailureKind::Internal, "a row of the ledger is damaged");
        Self::Rows(failure.caused_by(what))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.code() {
            Some(code) if code.code() == MISCOUNTED => miscounted(error),
            Some(code) if is_race(code) => Self::Raced(away("another instance was first", error)),
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                Self::Locked(away(LOCKED, error))
            }
            Some(code) if *code == SqlState::QUERY_CANCELED => Self::Late(away(hint(code), error)),
            Some(code) if is_about_rows(code) => {
                let message = "the ledger refused what was to be written";
                Self::Rows(Failure::new(FailureKind::Internal, message).caused_by(error))
            }
            Some(code) => Self::Away(away(hint(code), error)),
            None if is_without_password(&error) => Self::Away(away(NO_PASSWORD, error)),
            None => Self::Away(away("Postgres does not answer", error)),
        }
    }
}

/// Raised by our own functions (`functions.sql`), if other rows were written than were to be.
const MISCOUNTED: &str = "SH001";

/// A hold that was over may have been removed by another instance, and one that was active, ended.
fn miscounted(error: Error) -> Trouble {
    let failure = |message, error| Failure::new(FailureKind::Internal, message).caused_by(error);
    match error.as_db_error().and_then(|said| said.table()) {
        Some("hold") => Trouble::Raced(failure("a hold was removed in the meantime", error)),
        Some("active") => Trouble::Outdated(failure("a hold was changed in the meantime", error)),
        _ => Trouble::Rows(failure("a row of the ledger is damaged", error)),
    }
}

const NO_PASSWORD: &str = "Postgres wants a password: give it by passwordfile= in the URL of the \
                           ledger, or by PGPASSWORD";

/// The library has an error for it, but no name for the error.
fn is_without_password(error: &Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|cause| cause.to_string() == "password missing")
}

const LOCKED: &str = "a stock row is locked by another program";

fn away(message: &str, error: Error) -> Failure {
    Failure::new(FailureKind::Unavailable, message).caused_by(error)
}

/// Postgres does not answer, without an error of its own to say why.
pub(super) fn silent() -> Failure {
    Failure::new(FailureKind::Unavailable, "Postgres does not answer")
}

/// Deadlocks and serialization failures there should be none; a key that is there twice was written
/// by another instance in the meantime.
fn is_race(code: &SqlState) -> bool {
    *code == SqlState::UNIQUE_VIOLATION
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::T_R_SERIALIZATION_FAILURE
}

/// Integrity constraints, data exceptions, what a trigger raises, a page that is damaged.
fn is_about_rows(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "21" | "22" | "23" | "44" | "P0") || *code == SqlState::DATA_CORRUPTED
}

fn hint(code: &SqlState) -> &'static str {
    match code.code() {
        "25006" => "Postgres is read-only here: connect to the primary",
        "53100" => "the disk of Postgres is full",
        "53300" => "Postgres has no connection left: raise max_connections, or lower the pool",
        "57014" => "Postgres took too long",
        "57P01" | "57P02" | "57P03" => "Postgres is stopping or starting",
        "28000" | "28P01" => {
            "Postgres refuses this user or password: see the URL of the ledger, its passwordfile, \
             or PGPASSWORD; and pg_hba.conf"
        }
        "3D000" => {
            "there is no such database: make it (createdb --owner ROLE NAME), or check the URL"
        }
        "42501" => "the role lacks a right: see stockhold doctor",
        _ => "Postgres cannot do it",
    }
}

/// A row that was locked by another program a moment ago, and has not been had since.
pub(super) fn locked() -> Failure {
    Failure::new(FailureKind::Unavailable, LOCKED)
}

/// A commit would not wait for its disk.
pub(super) fn not_synced() -> Failure {
    let message = "synchronous_commit is off here: see stockhold doctor";
    Failure::new(FailureKind::Unavailable, message)
}

/// A commit that did not wait for the standby that it should have waited for.
pub(super) fn unconfirmed() -> Failure {
    let message = "a commit did not wait for the standby";
    Failure::new(FailureKind::Unavailable, message)
}
