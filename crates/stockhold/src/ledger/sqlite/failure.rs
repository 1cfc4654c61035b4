//! What SQLite's errors mean for the caller: the one place that knows.

use rusqlite::{Error, ErrorCode};

use crate::{Failure, FailureKind, ledger::ApplyError};

/// What was being done, for the message.
#[derive(Clone, Copy, Debug)]
pub(super) enum During {
    Open,
    Begin,
    Write,
    Commit,
    Read,
    Close,
    Backup,
}

impl During {
    const fn words(self) -> &'static str {
        match self {
            Self::Open => "the ledger cannot be opened",
            Self::Begin => "a transaction cannot be begun",
            Self::Write => "the ledger cannot be written",
            Self::Commit => "a commit ended in doubt",
            Self::Read => "the ledger cannot be read",
            Self::Close => "the ledger was not closed in order",
            Self::Backup => "the ledger cannot be copied",
        }
    }
}

pub(super) fn of(error: Error, during: During) -> Failure {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ": the disk is full",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ": another program has it locked"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => ": it may not be written",
        _ => "",
    };
    let message = format!("{}{hint}", during.words());
    Failure::new(FailureKind::Unavailable, message).caused_by(error)
}

/// Whether one of the commands is to blame, or the ledger as a whole.
pub(super) fn while_applying(error: Error) -> ApplyError {
    if is_about_rows(&error) {
        let refused =
            Failure::new(FailureKind::Internal, "the ledger refused what was to be written");
        return ApplyError::Refused { failure: refused.caused_by(error), races: 0 };
    }
    ApplyError::Unavailable(of(error, During::Write))
}

/// Errors that come from certain rows: a guard of the schema, a value that cannot be read, a page
/// that is damaged.
pub(super) fn is_about_rows(error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::DatabaseCorrupt
        ),
        // Not from SQLite itself, but from reading what it gave.
        None => true,
    }
}
