//! The URL of a Postgres database, as libpq writes it; and its password, which is shown to nobody.

use std::{fmt, path::PathBuf, str::FromStr};

use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::{hosts, inspect::Route};
use crate::{
    Failure,
    url::{Dialect, Parts, decoded, read_password, wrong},
};

/// Where a Postgres database is, and how to be let in.
///
/// `postgres://user:password@host:port,host2:port/database?name=value&...`. It names a host and a
/// database. Sessions are called `stockhold`, unless `application_name` says otherwise; of several
/// hosts the one that takes writes is found, unless `target_session_attrs` says otherwise. Beside what
/// tokio-postgres knows (`host`, `connect_timeout`, `target_session_attrs`, ...) there are
///
/// | parameter | |
/// |---|---|
/// | `sslmode` | `disable`, `prefer` (the default), `require`: TLS with whoever it is; `verify-ca`: with a certificate of a known authority; `verify-full`: which is for this host |
/// | `sslrootcert` | the PEM file of the known authorities, or `system` (the default); with it, `require` means `verify-ca`, and `system` means `verify-full` |
/// | `passwordfile` | a file whose first line is the password |
///
/// Neither [`Display`](fmt::Display) nor [`Debug`] shows the password.
///
/// ```
/// # use stockhold::ledger::postgres::PostgresUrl;
/// let url: PostgresUrl = "postgres://shop:secret@db.example/shop?sslmode=verify-full".parse()?;
/// assert_eq!(url.to_string(), "postgres://shop:***@db.example/shop?sslmode=verify-full");
/// # Ok::<(), stockhold::Failure>(())
/// ```
#[derive(Clone)]
pub struct PostgresUrl {
    shown: String,
    /// Without any password, so that it can be used.
    label: String,
    pub(super) config: Config,
    pub(super) check: Check,
}

/// What a server has to prove when it is spoken to in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Nothing,
    Issuer(Roots),
    IssuerAndName(Roots),
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(PathBuf),
}

impl PostgresUrl {
    /// The same for whoever only reads: any host that answers will do.
    pub(super) fn anywhere(&self) -> Self {
        let mut url = self.clone();
        url.config.target_session_attrs(TargetSessionAttrs::Any);
        url
    }

    /// The same with its nth host alone.
    pub(super) fn only(&self, n: usize) -> Self {
        Self { config: hosts::alone(&self.config, n), ..self.clone() }
    }

    /// How many hosts it names.
    pub(super) fn hosts(&self) -> usize {
        hosts::count(&self.config)
    }

    /// How its nth host is reached.
    pub(super) fn route(&self, n: usize) -> Route {
        let takes_any = self.config.get_target_session_attrs() == TargetSessionAttrs::Any;
        let (host, is_local) = hosts::name(&self.config, n);
        Route { host, is_local, hosts: self.hosts(), takes_any }
    }

    /// As it can be given again to whoever has the password from elsewhere.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// The role, if the URL has it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// Whether a password is known: from the URL, or from its `passwordfile`.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The same with this password, if it had none.
    #[must_use]
    pub fn or_password(mut self, password: impl AsRef<[u8]>) -> Self {
        if !self.has_password() {
            self.config.password(password);
        }
        self
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.shown)
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.check == other.check
    }
}

impl Eq for PostgresUrl {}

impl FromStr for PostgresUrl {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts = Parts::of(text, &DIALECT)?;
        let mut tls = Tls::default();
        let mut password = None;
        for (name, value) in &parts.parameters {
            match *name {
                "sslmode" => tls.mode = Some(Mode::of(value)?),
                "sslrootcert" => tls.roots = Some(roots(value)),
                "passwordfile" => password = Some(read_password(value)?),
                _ => {}
            }
        }
        let plain = parts.address(parts.login, |name, value| {
            (!OURS.contains(&name)).then(|| format!("{name}={value}"))
        });
        // What it says names a parameter at most, and those are known.
        let mut config = Config::from_str(&plain)
            .map_err(|e| wrong("this is no URL of a Postgres database").caused_by(e))?;
        if let Some(password) = password {
            config.password(password);
        }
        complete(&mut config, &parts)?;
        let (mode, check) = tls.settle(config.get_hosts())?;
        config.ssl_mode(mode);
        Ok(Self { shown: parts.shown(), label: parts.label(), config, check })
    }
}

/// What a URL need not say, and what it has to.
fn complete(config: &mut Config, parts: &Parts<'_>) -> Result<(), Failure> {
    if hosts::count(config) == 0 {
        return Err(wrong(
            "the URL names no host: postgres://user@host/database, or for a socket of this machine \
             postgres://user@/database?host=/run/postgresql",
        ));
    }
    if config.get_dbname().is_none() {
        return Err(wrong(
            "name a database of its own in the URL: postgres://user@host/database (createdb makes \
             one)",
        ));
    }
    if hosts::count(config) > 1 && !parts.has("target_session_attrs") {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("stockhold");
    }
    Ok(())
}

/// What a URL may say of TLS and the password beyond what the library knows.
const OURS: [&str; 3] = ["passwordfile", "sslmode", "sslrootcert"];

const DIALECT: Dialect = Dialect {
    schemes: &["postgres", "postgresql"],
    example: "a Postgres database is postgres://user@host/database",
    host: "db.example:5432",
    known: &KNOWN,
};

/// All that a URL may say.
const KNOWN: [&str; 21] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
    OURS[0],
    OURS[1],
    OURS[2],
];

/// What is said of TLS.
#[derive(Default)]
struct Tls {
    mode: Option<Mode>,
    roots: Option<Roots>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn of(word: &str) -> Result<Self, Failure> {
        match word {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(wrong("sslmode must be disable, prefer, require, verify-ca or verify-full")),
        }
    }
}

impl Tls {
    fn settle(self, hosts: &[Host]) -> Result<(SslMode, Check), Failure> {
        let mode = match (self.mode, &self.roots) {
            (None, Some(Roots::System)) => Mode::VerifyFull,
            (Some(mode), Some(Roots::System)) if mode != Mode::VerifyFull => {
                return Err(wrong("sslrootcert=system needs sslmode=verify-full"));
            }
            (Some(Mode::Require), Some(Roots::File(_))) => Mode::VerifyCa,
            (mode, _) => mode.unwrap_or(Mode::Prefer),
        };
        // Nobody listens on a socket of this machine but this machine; Postgres speaks no TLS there.
        if !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_))) {
            return Ok((SslMode::Disable, Check::Nothing));
        }
        let roots = self.roots.unwrap_or(Roots::System);
        Ok(match mode {
            Mode::Disable => (SslMode::Disable, Check::Nothing),
            Mode::Prefer => (SslMode::Prefer, Check::Nothing),
            Mode::Require => (SslMode::Require, Check::Nothing),
            Mode::VerifyCa => (SslMode::Require, Check::Issuer(roots)),
            Mode::VerifyFull => (SslMode::Require, Check::IssuerAndName(roots)),
        })
    }
}

fn roots(value: &str) -> Roots {
    match decoded(value).as_str() {
        "system" => Roots::System,
        path => Roots::File(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PostgresUrl {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        let failure = text.parse::<PostgresUrl>().unwrap_err();
        format!("{failure} {failure:?}")
    }

    fn tls(parameters: &str) -> (SslMode, Check) {
        let url = url(&format!("postgres://shop@db.example/shop?{parameters}"));
        (url.config.get_ssl_mode(), url.check)
    }

    #[test]
    fn a_url_means_what_libpq_means_by_it() {
        let url = url("postgresql://shop:a%2Fb@one:5433,two/shop?connect_timeout=3");
        assert_eq!(url.config.get_password(), Some(&b"a/b"[..]));
        assert_eq!((url.config.get_hosts().len(), url.config.get_ports()), (2, &[5433, 5432][..]));
        assert_eq!(url.config.get_connect_timeout().map(|t| t.as_secs()), Some(3));
        assert_eq!(url.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn each_sslmode_asks_for_what_its_name_says() {
        let ca = || Roots::File("/ca.pem".into());
        for (parameters, mode, check) in [
            ("", SslMode::Prefer, Check::Nothing),
            ("sslmode=disable", SslMode::Disable, Check::Nothing),
            ("sslmode=prefer", SslMode::Prefer, Check::Nothing),
            ("sslmode=require", SslMode::Require, Check::Nothing),
            ("sslmode=require&sslrootcert=/ca.pem", SslMode::Require, Check::Issuer(ca())),
            ("sslmode=verify-ca&sslrootcert=%2Fca.pem", SslMode::Require, Check::Issuer(ca())),
            ("sslmode=verify-ca", SslMode::Require, Check::Issuer(Roots::System)),
            ("sslmode=verify-full", SslMode::Require, Check::IssuerAndName(Roots::System)),
            ("sslrootcert=system", SslMode::Require, Check::IssuerAndName(Roots::System)),
        ] {
            assert_eq!(tls(parameters), (mode, check), "{parameters}");
        }
        assert!(refused("postgres://h/d?sslmode=yes").contains("verify-full"));
        assert!(refused("postgres://h/d?sslmode=require&sslrootcert=system").contains("needs"));
    }

    #[test]
    fn no_tls_is_spoken_on_a_socket_of_this_machine() {
        let url = url("postgres://shop@/shop?host=/run/postgresql&sslmode=verify-full");
        assert_eq!((url.config.get_ssl_mode(), url.check), (SslMode::Disable, Check::Nothing));
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://shop:s3cr3t@db/shop?sslmode=require",
            "postgres://shop:s3cr3t:s3cr3t@db/shop",
            "postgres://shop@db/shop?password=s3cr3t",
            "postgres://shop:s3cr3t?s3cr3t@db/shop",
            "postgres://:s3cr3t@db/shop",
        ] {
            let url = url(text);
            let shown = format!("{url} {url:?} {:?}", url.config);
            assert!(!shown.contains("s3cr3t") && shown.contains("***"), "{shown}");
        }
        for text in [
            "s3cr3t",
            "mysql://shop:s3cr3t@db/shop",
            "postgres://shop:x@s3cr3t@db/shop",
            "postgres://shop:s3cr3t@db:port/shop",
            "postgres://shop:s3cr3t@db/shop?sslmode=s3cr3t",
            "postgres://shop:s3cr3t@db/shop?s3cr3t",
            "postgres://shop:s3cr3t@db/shop?unknown=s3cr3t",
            "postgres://shop:a@b?s3cr3t=x@db/shop",
            "postgres://shop:a@b?s3cr3t@db/shop?sslmode=require",
            "postgres://shop@db/shop?password=a&s3cr3t=b",
            "postgres://shop:s3cr3t",
            "postgres://shop:a,b:s3cr3t",
        ] {
            assert!(!refused(text).contains("s3cr3t"), "{}", refused(text));
        }
    }

    #[test]
    fn a_url_that_is_wrong_is_told_what_is_wrong_with_it() {
        for (text, told) in [
            ("postgres://shop@db/shop?sslmod=require", "\"sslmod\" is not known; known are appl"),
            ("postgres://shop@db:54e2/shop", "a port is no number"),
            ("postgres://shop@[::1]:x/shop", "a port is no number"),
            ("postgres://shop@db,two:/shop", "a port is no number"),
            ("postgres://shop@db/shop?port=x", "InvalidValue(\"port\")"),
            ("postgres://", "the URL names no host"),
            ("postgres://shop@/shop", "the URL names no host"),
            ("postgres://shop@db", "name a database of its own"),
            ("postgres://shop@db/?sslmode=require", "name a database of its own"),
        ] {
            assert!(refused(text).contains(told), "{text}: {}", refused(text));
        }
        for name in KNOWN {
            let read = format!("postgres://shop@db/shop?{name}=x").parse::<PostgresUrl>();
            let told = format!("{read:?}").to_lowercase();
            assert!(!told.contains("not known") && !told.contains("unknown"), "{told}");
        }
        let good = ["[::1]:5432,[::1]/shop", "%2Frun/shop", "db?dbname=shop", "/shop?host=/run"];
        for place in good {
            url(&format!("postgres://shop@{place}"));
        }
    }

    #[test]
    fn a_label_can_be_used_again() {
        for (text, label) in [
            ("postgres://shop:secret@db/shop", "postgres://shop@db/shop"),
            ("postgres://:secret@db/shop", "postgres://db/shop"),
            ("postgres://db/shop?password=x&sslmode=require", "postgres://db/shop?sslmode=require"),
        ] {
            assert_eq!(url(text).label(), label);
            assert!(label.parse::<PostgresUrl>().is_ok());
        }
    }

    #[test]
    fn whoever_looks_at_the_sessions_of_postgres_sees_whose_they_are() {
        let name = |text| url(text).config.get_application_name().map(str::to_owned);
        assert_eq!(name("postgres://shop@db/shop").as_deref(), Some("stockhold"));
        let till = "postgres://shop@db/shop?application_name=till";
        assert_eq!(name(till).as_deref(), Some("till"));
    }

    #[test]
    fn a_password_may_be_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cr3t\n").unwrap();
        let text = format!("postgres://shop@db/shop?passwordfile={}", file.path().display());
        assert_eq!(url(&text).config.get_password(), Some(&b"s3cr3t"[..]));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(refused(&text).contains("no password"));
        assert!(refused("postgres://h/d?passwordfile=/none").contains("/none"));
    }

    #[test]
    fn a_password_from_elsewhere_does_not_go_before_that_of_the_url() {
        let with = |text| url(text).or_password("other").config.get_password().unwrap().to_vec();
        assert_eq!(with("postgres://shop@db/shop"), b"other");
        assert_eq!(with("postgres://shop:own@db/shop"), b"own");
    }
}
