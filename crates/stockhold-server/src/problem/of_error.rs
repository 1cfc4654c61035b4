//! What the engine says, as a problem. What went wrong inside is logged, and never sent.

use std::borrow::Cow;

use stockhold::{Error, Failure, FailureKind, LockName, Rejection, Timestamp, lock::LockError};

use super::{Kind, Numbers, Problem};

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected { rejection, as_of } => Self::rejected(rejection, as_of),
            Error::Failed(failure) => Self::failed(failure),
        }
    }
}

impl Problem {
    fn rejected(rejection: Box<Rejection>, as_of: Option<Timestamp>) -> Self {
        let kind = kind_of_rejection(&rejection);
        let detail = match kind {
            Kind::Internal => Cow::Borrowed(LOOK_INTO_THE_LOG),
            _ => rejection.to_string().into(),
        };
        let mut problem = Self::new(kind, detail);
        problem.0.field = field_of(&rejection).map(Cow::Borrowed);
        problem.0.numbers = match as_of {
            None => Numbers::Rejection(rejection),
            Some(as_of) => Numbers::ByCopy(rejection, as_of),
        };
        problem
    }

    /// Why a lock was not had, or not kept.
    pub(crate) fn of_lock(name: &LockName, error: LockError) -> Self {
        let detail = error.to_string();
        let (kind, numbers) = match error {
            LockError::Busy { left } => (Kind::LockBusy, Numbers::BusyLock(name.clone(), left)),
            LockError::Lost => (Kind::LeaseLost, Numbers::Lock(name.clone())),
            LockError::Unavailable(_) => return Self::of_locks(error),
        };
        let mut problem = Self::new(kind, detail);
        problem.0.numbers = numbers;
        problem
    }

    /// Why nothing is known of any lock.
    pub(crate) fn of_locks(error: LockError) -> Self {
        let problem = Self::new(Kind::Unavailable, "nobody can say now who has which lock");
        match error {
            LockError::Unavailable(failure) => problem.caused_by(failure),
            LockError::Busy { .. } | LockError::Lost => problem,
        }
    }

    /// Nobody has this lock.
    pub(crate) fn lock_is_free(name: &LockName) -> Self {
        let mut problem = Self::new(Kind::LockNotHeld, "nobody has this lock");
        problem.0.numbers = Numbers::Lock(name.clone());
        problem
    }

    fn failed(failure: Failure) -> Self {
        let (kind, detail) = match failure.kind {
            FailureKind::Overloaded => {
                (Kind::Overloaded, "too many commands are waiting; nothing was done")
            }
            FailureKind::Unavailable => {
                (Kind::Unavailable, "the ledger did not answer, or not whether it was done")
            }
            FailureKind::Closed => (Kind::Unavailable, "the server is shutting down"),
            FailureKind::Internal
            | FailureKind::InUse
            | FailureKind::Incompatible
            | FailureKind::Invalid => (Kind::Internal, LOOK_INTO_THE_LOG),
        };
        Self::new(kind, detail).caused_by(failure)
    }
}

const LOOK_INTO_THE_LOG: &str = "the request met a fault of the server";

const fn kind_of_rejection(rejection: &Rejection) -> Kind {
    match rejection {
        Rejection::NotFound { .. } => Kind::NotFound,
        Rejection::UnknownSku { .. } => Kind::UnknownSku,
        Rejection::InsufficientStock { .. } => Kind::InsufficientStock,
        Rejection::HoldEnded { .. } => Kind::HoldEnded,
        Rejection::HoldExpired { .. } => Kind::HoldExpired,
        Rejection::AlreadyConfirmed { .. } => Kind::AlreadyConfirmed,
        Rejection::AlreadyReleased { .. } => Kind::AlreadyReleased,
        Rejection::Revoked { .. } => Kind::Revoked,
        Rejection::AlreadyCancelled { .. } => Kind::AlreadyCancelled,
        Rejection::AlreadyShipped { .. } => Kind::AlreadyShipped,
        Rejection::NotConfirmed { .. } => Kind::NotConfirmed,
        Rejection::NothingOpen { .. } => Kind::NothingOpen,
        Rejection::MaxLifetime { .. } => Kind::MaxLifetime,
        Rejection::NotInHold { .. } => Kind::NotInHold,
        Rejection::MoreThanHeld { .. } => Kind::MoreThanHeld,
        Rejection::MoreThanOpen { .. } => Kind::MoreThanOpen,
        Rejection::IdempotencyKeyReused => Kind::IdempotencyKeyReused,
        Rejection::IdempotencyKeyRequired { .. } => Kind::IdempotencyKeyRequired,
        Rejection::AlreadyExists { .. } => Kind::AlreadyExists,
        Rejection::WouldGoBelow { .. } => Kind::WouldGoBelow,
        Rejection::OnHandDiffers { .. } => Kind::OnHandDiffers,
        Rejection::TooManyLines { .. } => Kind::TooManyLines,
        Rejection::QuantityTooLarge { .. } => Kind::QuantityTooLarge,
        Rejection::QuantityTooSmall { .. } => Kind::QuantityTooSmall,
        Rejection::OutOfRange => Kind::OutOfRange,
        Rejection::Damaged { .. } => Kind::Internal,
    }
}

/// The field of the request that a malformed one has to mend.
fn field_of(rejection: &Rejection) -> Option<&'static str> {
    match rejection {
        Rejection::TooManyLines { .. } | Rejection::QuantityTooLarge { .. } => Some("lines"),
        Rejection::QuantityTooSmall { field, .. } => Some(field),
        Rejection::IdempotencyKeyRequired { .. } => Some("Idempotency-Key"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use stockhold::HoldId;

    use super::*;
    use crate::problem::body;

    #[test]
    fn a_rejection_keeps_its_code() {
        let id = HoldId::from_bytes([0; 16]);
        let rejections = [
            Rejection::NotFound { id },
            Rejection::InsufficientStock { lines: vec![], of: 1 },
            Rejection::HoldExpired { id, lines: vec![] },
            Rejection::AlreadyReleased { id },
            Rejection::Revoked { id },
            Rejection::AlreadyCancelled { id },
            Rejection::AlreadyShipped { id },
            Rejection::NothingOpen { id },
            Rejection::IdempotencyKeyReused,
            Rejection::IdempotencyKeyRequired { verb: "receive" },
            Rejection::OutOfRange,
            Rejection::Damaged { what: String::new() },
        ];
        for rejection in rejections {
            assert_eq!(kind_of_rejection(&rejection).row().code, rejection.code());
        }
    }

    #[test]
    fn what_is_damaged_is_not_told() {
        let damaged = Rejection::Damaged { what: "SELECT secret FROM /var/lib/x.db".into() };
        let text = body::write(&Problem::from(Error::from(damaged)).0, "r1");
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("secret") && text.contains("\"internal\""), "{text}");
    }

    #[test]
    fn what_failed_is_not_told() {
        use FailureKind::{
            Closed, InUse, Incompatible, Internal, Invalid, Overloaded, Unavailable,
        };
        for (kind, status) in [
            (Overloaded, 429),
            (Unavailable, 503),
            (Closed, 503),
            (Internal, 500),
            (InUse, 500),
            (Incompatible, 500),
            (Invalid, 500),
        ] {
            let failure = Failure::new(kind, "secret").caused_by("secret");
            let problem = Problem::from(Error::from(failure));
            assert_eq!(problem.0.kind.row().status, status);
            let text = String::from_utf8(body::write(&problem.0, "r1")).unwrap();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
