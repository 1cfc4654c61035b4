//! How the process ends, and what it says when that is not well.

use std::{fmt, process::ExitCode};

use stockhold::Failure;

/// How the process ends, apart from clap's own 2 for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Error,
    Usage,
    InsufficientStock,
    Expired,
    InvariantBroken,
    /// A lock was not had, or was lost.
    NoLock,
    /// As another program did.
    Of(u8),
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::InsufficientStock => 3,
            Self::Expired => 4,
            Self::InvariantBroken => 5,
            Self::NoLock => 125,
            Self::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(super) exit: Exit,
    message: String,
    /// What a server answered, for those who want it as it came.
    pub(super) answer: Option<String>,
}

impl Fault {
    /// It ends like this.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), answer: None }
    }

    /// The same, with the problem that a server answered.
    pub(super) fn with_answer(mut self, answer: &[u8]) -> Self {
        self.answer = Some(String::from_utf8_lossy(answer).into_owned());
        self
    }

    /// The same, but it ends like this.
    pub(super) const fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What the server answered is only for those who asked for JSON.
    pub(super) fn for_reader(mut self, json: bool) -> Self {
        self.answer = self.answer.filter(|_| json);
        self
    }

    /// It could not be done.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, message)
    }

    /// It was not asked for in a way that makes sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for Fault {
    /// With all that lies behind it.
    fn from(failure: Failure) -> Self {
        Self::error(format!("{}", failure.chain()))
    }
}

/// Says what could not be done.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, Fault>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Fault> {
        self.map_err(|e| Fault::error(format!("{what}: {e}")))
    }
}
