//! Mistakes made on purpose: a fault test that has never failed proves nothing.
//!
//! With the feature `conformance`, the variable `STOCKHOLD_BUG=<name>` makes a process that promises
//! more than it can keep. Without the feature nobody makes them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A batch is answered whatever became of its commit.
    AckBeforeCommit,
    /// Stock rows are not locked, and nobody looks whether they have changed.
    NoLock,
    /// What is not known is told as not done.
    ForgetUnknown,
}

#[cfg(not(feature = "conformance"))]
impl Bug {
    /// No.
    #[inline]
    pub const fn is_made(self) -> bool {
        false
    }
}

#[cfg(feature = "conformance")]
pub(crate) use wanted::arm;

#[cfg(feature = "conformance")]
mod wanted {
    use std::sync::LazyLock;

    use super::Bug;

    const VARIABLE: &str = "STOCKHOLD_BUG";

    static WANTED: LazyLock<Option<Bug>> = LazyLock::new(of_environment);

    /// Reads the variable: an engine whose variable makes no sense does not start.
    pub(crate) fn arm() {
        LazyLock::force(&WANTED);
    }

    impl Bug {
        /// All of them.
        pub const ALL: [Self; 3] = [Self::AckBeforeCommit, Self::NoLock, Self::ForgetUnknown];

        /// As the variable calls it.
        #[must_use]
        pub const fn name(self) -> &'static str {
            match self {
                Self::AckBeforeCommit => "ack-before-commit",
                Self::NoLock => "no-lock",
                Self::ForgetUnknown => "forget-unknown",
            }
        }

        /// Whether this process makes it.
        pub fn is_made(self) -> bool {
            *WANTED == Some(self)
        }
    }

    #[expect(clippy::disallowed_methods, reason = "no setting of a shop")]
    #[expect(clippy::panic, reason = "a test that names no bug tests nothing")]
    fn of_environment() -> Option<Bug> {
        let name = std::env::var(VARIABLE).ok()?;
        let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        let names = Bug::ALL.map(Bug::name).join(", ");
        Some(bug.unwrap_or_else(|| panic!("{VARIABLE}={name}: it is one of {names}")))
    }
}
