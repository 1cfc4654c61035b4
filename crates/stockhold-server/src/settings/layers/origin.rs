//! Who said a setting, and that it is wrong.

use std::{fmt, path::PathBuf};

/// A setting that is not what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    origin: Origin,
    message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

impl std::error::Error for SettingsError {}

/// Who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Defaults,
    File(PathBuf, usize),
    Variable(String),
    Flag(&'static str),
}

impl Origin {
    pub(super) fn error(self, message: impl Into<String>) -> SettingsError {
        SettingsError { origin: self, message: message.into() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("default.toml"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}
