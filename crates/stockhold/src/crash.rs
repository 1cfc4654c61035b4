//! Ends the process at a chosen point, as a power cut would: for tests of what a crash leaves behind.
//!
//! With the feature `conformance`, the variable `STOCKHOLD_CRASH_AT=<point>[:<n>]` makes the process
//! kill itself (`SIGKILL`) when it passes that point for the nth time. Without the feature nothing is
//! left of this.

/// Where a process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A batch has begun; it has locked nothing.
    AfterBegin,
    /// It has its locks, and has read what it needs.
    AfterLocks,
    /// Its commands are decided.
    BeforeWrite,
    /// Its rows are written.
    AfterWrite,
    /// Those of a batch in which holds expire.
    InSweep,
    /// All that is missing is the commit.
    BeforeCommit,
    /// It is committed, and nobody was told.
    AfterCommit,
    /// An outage is written down, and not committed.
    InOutage,
    /// A group of rows of a stock list was loaded.
    InImport,
    /// The engine has answered a POST, and the client was not told.
    BeforeReply,
}

#[cfg(not(feature = "conformance"))]
impl Point {
    /// Nothing happens here.
    #[inline]
    pub const fn pass(self) {}

    /// No.
    #[inline]
    #[must_use]
    pub const fn is_awaited(self) -> bool {
        false
    }
}

#[cfg(feature = "conformance")]
pub(crate) use armed::arm;

#[cfg(feature = "conformance")]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    const VARIABLE: &str = "STOCKHOLD_CRASH_AT";

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(Plan::of_environment);

    /// Reads the variable: an engine whose variable makes no sense does not start.
    pub(crate) fn arm() {
        LazyLock::force(&PLAN);
    }

    impl Point {
        /// All of them.
        pub const ALL: [Self; 10] = [
            Self::AfterBegin,
            Self::AfterLocks,
            Self::BeforeWrite,
            Self::AfterWrite,
            Self::InSweep,
            Self::BeforeCommit,
            Self::AfterCommit,
            Self::InOutage,
            Self::InImport,
            Self::BeforeReply,
        ];

        /// As the variable calls it.
        #[must_use]
        pub const fn name(self) -> &'static str {
            match self {
                Self::AfterBegin => "after-begin",
                Self::AfterLocks => "after-locks",
                Self::BeforeWrite => "before-write",
                Self::AfterWrite => "after-write",
                Self::InSweep => "in-sweep",
                Self::BeforeCommit => "before-commit",
                Self::AfterCommit => "after-commit",
                Self::InOutage => "in-outage",
                Self::InImport => "in-import",
                Self::BeforeReply => "before-reply",
            }
        }

        /// Whether the process is going to end here.
        #[must_use]
        pub fn is_awaited(self) -> bool {
            PLAN.as_ref().is_some_and(|plan| plan.point == self)
        }

        /// The process is here now; perhaps it gets no further.
        pub fn pass(self) {
            static PASSED: AtomicU32 = AtomicU32::new(0);
            let Some(plan) = PLAN.as_ref().filter(|plan| plan.point == self) else { return };
            if PASSED.fetch_add(1, Ordering::Relaxed).saturating_add(1) == plan.nth {
                // One's own process can be sent a signal, and does not survive this one.
                let _ = kill_process(getpid(), Signal::KILL);
            }
        }
    }

    /// Where, and at which time of passing, from 1 on.
    #[derive(Debug, PartialEq, Eq)]
    struct Plan {
        point: Point,
        nth: u32,
    }

    impl Plan {
        #[expect(clippy::disallowed_methods, reason = "no setting of a shop")]
        #[expect(clippy::panic, reason = "a test that names no point tests nothing")]
        fn of_environment() -> Option<Self> {
            let text = std::env::var(VARIABLE).ok()?;
            let plan = Self::parse(&text);
            let names = Point::ALL.map(Point::name).join(", ");
            Some(
                plan.unwrap_or_else(|| panic!("{VARIABLE}={text}: it is <point>[:<n>] of {names}")),
            )
        }

        fn parse(text: &str) -> Option<Self> {
            let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
            let point = Point::ALL.into_iter().find(|point| point.name() == name)?;
            Some(Self { point, nth: nth.parse().ok().filter(|nth| *nth > 0)? })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_plan_names_a_point_and_a_time() {
            let plan = |point, nth| Some(Plan { point, nth });
            assert_eq!(Plan::parse("in-sweep"), plan(Point::InSweep, 1));
            assert_eq!(Plan::parse("after-commit:7"), plan(Point::AfterCommit, 7));
            for wrong in ["", "in", "in-sweep:", "in-sweep:0", "in-sweep:often", "InSweep"] {
                assert_eq!(Plan::parse(wrong), None, "{wrong}");
            }
        }
    }
}
