//! Which ledger, and how to open it: the one place that knows all of them.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use clap::{
    Arg, Command,
    builder::{TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};
use stockhold::{
    Failure,
    ledger::{
        Ledger,
        memory::MemoryLedger,
        postgres::{PostgresLedger, PostgresOptions, PostgresUrl},
        sqlite::{SqliteLedger, SqliteOptions},
    },
};

/// Which ledger: `sqlite:PATH`, `postgres://...` or `memory:`. Shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// A ledger that forgets everything in the end.
    Memory,
    /// A ledger in this file.
    Sqlite(PathBuf),
    /// A ledger that instances share.
    Postgres(Box<PostgresUrl>),
}

impl FromStr for LedgerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => {
                let url = text.parse().map_err(|e: Failure| format!("{}", e.chain()))?;
                Ok(Self::Postgres(Box::new(url)))
            }
            _ => Err("a ledger is sqlite:PATH, postgres://... or memory:".to_owned()),
        }
    }
}

impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl ValueParserFactory for LedgerUrl {
    type Parser = LedgerUrlParser;

    fn value_parser() -> LedgerUrlParser {
        LedgerUrlParser
    }
}

/// Reads a [`LedgerUrl`] from an argument. Its complaints do not repeat the argument, as clap's do:
/// there may be a password in it.
#[derive(Clone, Copy, Debug)]
pub struct LedgerUrlParser;

impl TypedValueParser for LedgerUrlParser {
    type Value = LedgerUrl;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<LedgerUrl, clap::Error> {
        let name = arg.map(|arg| format!("{arg}: ")).unwrap_or_default();
        let wrong = |why: &str| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{name}{why}\n")).with_cmd(command)
        };
        let text = value.to_str().ok_or_else(|| wrong("this is not text in UTF-8"))?;
        text.parse().map_err(|why: String| wrong(&why))
    }
}

/// How to open a ledger, whichever it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    pub(crate) sqlite: SqliteOptions,
    /// The most connections to Postgres.
    pub(crate) connections: Option<usize>,
    pub(crate) allow_unsafe: bool,
}

/// Opens a ledger. Blocks if it is a file.
pub(crate) async fn open_ledger(
    url: &LedgerUrl,
    opening: Opening,
) -> Result<Arc<dyn Ledger>, Failure> {
    let Opening { sqlite, connections, allow_unsafe } = opening;
    match url {
        LedgerUrl::Memory => Ok(Arc::new(MemoryLedger::new(sqlite.limits, sqlite.clock))),
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path, sqlite)?)),
        LedgerUrl::Postgres(url) => {
            let mut options = PostgresOptions::default();
            options.limits = sqlite.limits;
            options.connections = connections.unwrap_or(options.connections);
            options.allow_unsafe = allow_unsafe;
            Ok(Arc::new(PostgresLedger::connect_to(&let_in(url), options).await?))
        }
    }
}

/// The URL with the password of the environment, if it has none of its own.
pub(super) fn let_in(url: &PostgresUrl) -> PostgresUrl {
    let password = std::env::var_os("PGPASSWORD").filter(|password| !password.is_empty());
    match password {
        Some(password) => url.clone().or_password(password.as_encoded_bytes()),
        None => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_named_by_its_url() {
        let urls =
            ["memory:", "sqlite:stockhold.db", "sqlite:/var/lib/a b.db", "postgres://shop@db/shop"];
        for url in urls {
            assert_eq!(url.parse::<LedgerUrl>().unwrap().to_string(), url);
        }
        for url in ["", "memory", "memory:x", "sqlite:", "stockhold.db", "redis://x", "postgres:x"]
        {
            assert!(url.parse::<LedgerUrl>().is_err(), "{url}");
        }
    }
}
