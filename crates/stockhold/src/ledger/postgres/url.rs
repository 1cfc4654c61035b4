//! The URL of a Postgres database, as libpq writes it; and its password, which is shown to nobody.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use crate::{Failure, FailureKind};

/// Where a Postgres database is, and how to be let in.
///
/// `postgres://user:password@host:port,host2:port/database?name=value&...`. Beside what
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
        let Parts { scheme, login, place, parameters } = Parts::of(text)?;
        let mut tls = Tls::default();
        let (mut others, mut shown, mut password) = (Vec::new(), Vec::new(), None);
        for (name, value) in &parameters {
            match *name {
                "sslmode" => tls.mode = Some(Mode::of(value)?),
                "sslrootcert" => tls.roots = Some(roots(value)),
                "passwordfile" => password = Some(read_password(value)?),
                _ => others.push(format!("{name}={value}")),
            }
            let value = if *name == "password" { "***" } else { value };
            shown.push(format!("{name}={value}"));
        }
        let address = |login: &str, parameters: &[String]| {
            let mark = if parameters.is_empty() { "" } else { "?" };
            format!("{scheme}://{login}{place}{mark}{}", parameters.join("&"))
        };
        let mut config = Config::from_str(&address(login, &others))
            .map_err(|e| wrong("this is no URL of a Postgres database").caused_by(e))?;
        if let Some(password) = password {
            config.password(password);
        }
        if config.get_hosts().len() > 1 && !others.iter().any(|o| o.starts_with("target_session")) {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let (mode, check) = tls.settle(config.get_hosts())?;
        config.ssl_mode(mode);
        Ok(Self { shown: address(&hidden(login), &shown), config, check })
    }
}

/// The pieces of a URL, as they were written.
struct Parts<'a> {
    scheme: &'a str,
    /// With its @, or empty.
    login: &'a str,
    /// Hosts and database.
    place: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    /// What is said of a part that is wrong never holds that part: it may be the password.
    fn of(text: &'a str) -> Result<Self, Failure> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(wrong("a Postgres database is postgres://user@host/database"));
        }
        let (login, rest) = rest.split_at(rest.find('@').map_or(0, |at| at.saturating_add(1)));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if place.contains('@') {
            return Err(wrong("an @ in a password is written %40"));
        }
        let parameters = query.split('&').filter(|one| !one.is_empty());
        let parameters = parameters.map(|one| {
            one.split_once('=').ok_or_else(|| wrong("each parameter behind the ? is name=value"))
        });
        Ok(Self { scheme, login, place, parameters: parameters.collect::<Result<_, _>>()? })
    }
}

fn hidden(login: &str) -> String {
    match login.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => login.to_owned(),
    }
}

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

fn read_password(file: &str) -> Result<String, Failure> {
    let file = decoded(file);
    let text = std::fs::read_to_string(&file)
        .map_err(|e| wrong(format!("passwordfile {file} cannot be read")).caused_by(e))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(wrong(format!("passwordfile {file} has no password in its first line"))),
    }
}

fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, message)
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
        ] {
            assert!(!refused(text).contains("s3cr3t"), "{}", refused(text));
        }
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
