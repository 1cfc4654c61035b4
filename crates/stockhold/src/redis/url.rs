//! The URL of a Redis: one server, one behind Sentinels, or a Cluster.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{
    Failure,
    url::{Dialect, Parts, decoded, port, read_password, wrong},
};

/// Where a Redis is, and how to be let in.
///
/// | URL | |
/// |---|---|
/// | `redis://user:password@host:6379/0` | one server; the number is that of the database |
/// | `redis+unix:///run/redis.sock?db=0` | one on this machine, by its socket |
/// | `redis+sentinel://user:password@host:26379,host2/primary/0` | the primary of that name, which any of these Sentinels knows |
/// | `redis+cluster://user:password@host:6379,host2` | a Cluster, of which these are members |
///
/// `rediss` in place of `redis` is TLS, with a certificate for the host that is named and of a known
/// authority. Parameters:
///
/// | parameter | |
/// |---|---|
/// | `db` | the number of the database, if the path has none |
/// | `passwordfile` | a file whose first line is the password |
/// | `sentineluser`, `sentinelpasswordfile` | how to be let in by the Sentinels, which have no user of the same name |
/// | `sslrootcert` | the PEM file of the known authorities, or `system` (the default) |
/// | `user`, `password` | as parts of the URL, for a socket |
///
/// Neither [`Display`](fmt::Display) nor [`Debug`] shows a password.
///
/// ```
/// # use stockhold::redis::RedisUrl;
/// let url: RedisUrl = "rediss://shop:secret@cache.example/2".parse()?;
/// assert_eq!(url.to_string(), "rediss://shop:***@cache.example/2");
/// # Ok::<(), stockhold::Failure>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    shown: String,
    pub(super) target: Target,
    pub(super) login: Login,
    pub(super) db: i64,
    pub(super) tls: Option<Roots>,
}

/// What is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Socket(PathBuf),
    Server(Host),
    Sentinels { hosts: Vec<Host>, primary: String, login: Login },
    Cluster(Vec<Host>),
}

/// A name, or an address without brackets; and a port.
pub(super) type Host = (String, u16);

/// A user and a password, as far as there are any.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(PathBuf),
}

const DIALECT: Dialect = Dialect {
    schemes: &[
        "redis",
        "rediss",
        "redis+unix",
        "redis+sentinel",
        "rediss+sentinel",
        "redis+cluster",
        "rediss+cluster",
    ],
    example: "a Redis is redis://host, redis+unix:///path, redis+sentinel://host,host2/primary or \
              redis+cluster://host,host2; rediss instead of redis is TLS",
    host: "cache.example:6379",
    known: &[
        "db",
        "password",
        "passwordfile",
        "sentinelpasswordfile",
        "sentineluser",
        "sslrootcert",
        "user",
    ],
};

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.shown)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Login").field("user", &self.user).field("password", &password).finish()
    }
}

impl FromStr for RedisUrl {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts = Parts::of(text, &DIALECT)?;
        let mut said = Said::of(&parts)?;
        let (target, rest) = said.target(&parts)?;
        let db = match (rest, said.db) {
            ("", None) => 0,
            ("", Some(db)) => number(&db)?,
            (db, None) => number(db)?,
            (_, Some(_)) => {
                return Err(wrong("the database is named twice: in the path, and as db"));
            }
        };
        if db != 0 && matches!(target, Target::Cluster(_)) {
            return Err(wrong("a Cluster has one database only, 0"));
        }
        let tls = parts.scheme.starts_with("rediss").then_some(said.roots);
        Ok(Self { shown: parts.shown(), target, login: said.login, db, tls })
    }
}

/// What is said of everything but the place.
struct Said {
    login: Login,
    sentinels: Login,
    db: Option<String>,
    roots: Roots,
}

impl Said {
    fn of(parts: &Parts<'_>) -> Result<Self, Failure> {
        let mut login = Login::of(parts.login);
        let (mut sentinels, mut db, mut roots) = (Login::default(), None, Roots::System);
        for (name, value) in &parts.parameters {
            let text = decoded(value);
            match *name {
                "db" => db = Some(text),
                "user" => login.user = Some(text),
                "password" => login.password = Some(text),
                "passwordfile" => login.password = Some(read_password(value)?),
                "sentineluser" => sentinels.user = Some(text),
                "sentinelpasswordfile" => sentinels.password = Some(read_password(value)?),
                "sslrootcert" if text != "system" => roots = Roots::File(text.into()),
                _ => {}
            }
        }
        for login in [&login, &sentinels] {
            if login.user.is_some() && login.password.is_none() {
                return Err(wrong("a user needs a password: in the URL, or by passwordfile"));
            }
        }
        Ok(Self { login, sentinels, db, roots })
    }

    /// What is at the other end, and what stands behind it in the path.
    fn target<'a>(&mut self, parts: &Parts<'a>) -> Result<(Target, &'a str), Failure> {
        let (_, path) = parts.place.split_once('/').unwrap_or((parts.place, ""));
        let kind = parts.scheme.split_once('+').map_or("", |(_, kind)| kind);
        match kind {
            "unix" => return Ok((Target::Socket(socket(parts.place)?), "")),
            "sentinel" => {
                let hosts = hosts(parts, 26_379)?;
                let (primary, db) = path.split_once('/').unwrap_or((path, ""));
                if primary.is_empty() {
                    return Err(wrong(
                        "name the primary that the Sentinels know: redis+sentinel://host/primary",
                    ));
                }
                let (primary, login) = (decoded(primary), std::mem::take(&mut self.sentinels));
                return Ok((Target::Sentinels { hosts, primary, login }, db));
            }
            _ => {}
        }
        let mut hosts = hosts(parts, 6_379)?;
        if kind == "cluster" {
            return Ok((Target::Cluster(hosts), path));
        }
        match (hosts.pop(), hosts.is_empty()) {
            (Some(host), true) => Ok((Target::Server(host), path)),
            _ => Err(wrong(
                "several hosts are a Cluster (redis+cluster://) or Sentinels (redis+sentinel://)",
            )),
        }
    }
}

impl Login {
    /// As it stands before the @.
    fn of(text: &str) -> Self {
        let text = text.strip_suffix('@').unwrap_or(text);
        let (user, password) = text.split_once(':').map_or((text, None), |(u, p)| (u, Some(p)));
        let user = (!user.is_empty()).then(|| decoded(user));
        Self { user, password: password.map(decoded) }
    }
}

fn hosts(parts: &Parts<'_>, usual: u16) -> Result<Vec<Host>, Failure> {
    parts.hosts().map(|text| host(text, usual)).collect()
}

fn host(text: &str, usual: u16) -> Result<Host, Failure> {
    let port = port(text);
    let name = port.map_or(text, |port| text.strip_suffix(port).unwrap_or(text));
    let name = if port.is_some() { name.trim_end_matches(':') } else { name };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if name.is_empty() {
        return Err(wrong("the URL names no host: redis://cache.example:6379"));
    }
    // Its port was read before.
    Ok((decoded(name), port.and_then(|port| port.parse().ok()).unwrap_or(usual)))
}

fn socket(place: &str) -> Result<PathBuf, Failure> {
    if place.starts_with('/') && place.len() > 1 {
        Ok(decoded(place).into())
    } else {
        Err(wrong("a socket is named by its whole path: redis+unix:///run/redis/redis.sock"))
    }
}

fn number(text: &str) -> Result<i64, Failure> {
    match text.parse() {
        Ok(number @ 0..) => Ok(number),
        _ => Err(wrong("the database of a Redis is a number: redis://cache.example/0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RedisUrl {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        let failure = text.parse::<RedisUrl>().unwrap_err();
        format!("{failure} {failure:?}")
    }

    fn at(name: &str, port: u16) -> Host {
        (name.to_owned(), port)
    }

    #[test]
    fn a_url_names_one_server_one_behind_sentinels_or_a_cluster() {
        for (text, target, db) in [
            ("redis://cache", Target::Server(at("cache", 6_379)), 0),
            ("redis://cache:7000/3", Target::Server(at("cache", 7_000)), 3),
            ("redis://[::1]:7000?db=2", Target::Server(at("::1", 7_000)), 2),
            ("redis://[::1]", Target::Server(at("::1", 6_379)), 0),
            ("redis+unix:///run/r.sock?db=1", Target::Socket("/run/r.sock".into()), 1),
            ("redis+cluster://a,b:7001", Target::Cluster(vec![at("a", 6_379), at("b", 7_001)]), 0),
            (
                "redis+sentinel://a:1,b/shop/4",
                Target::Sentinels {
                    hosts: vec![at("a", 1), at("b", 26_379)],
                    primary: "shop".to_owned(),
                    login: Login::default(),
                },
                4,
            ),
        ] {
            let url = url(text);
            assert_eq!((url.target, url.db, url.tls), (target, db, None), "{text}");
        }
    }

    #[test]
    fn rediss_is_tls() {
        let roots = |text| url(text).tls;
        assert_eq!(roots("rediss://cache"), Some(Roots::System));
        assert_eq!(roots("rediss+cluster://a?sslrootcert=system"), Some(Roots::System));
        let file = Some(Roots::File("/ca.pem".into()));
        assert_eq!(roots("rediss+sentinel://a/shop?sslrootcert=%2Fca.pem"), file);
    }

    #[test]
    fn who_asks_and_how_it_is_let_in_stands_before_the_host_or_behind() {
        for text in [
            "redis://shop:a%2Fb@cache",
            "redis://cache?user=shop&password=a%2Fb",
            "redis+unix:///run/r.sock?user=shop&password=a/b",
        ] {
            let Login { user, password } = url(text).login;
            let login = (user.as_deref(), password.as_deref());
            assert_eq!(login, (Some("shop"), Some("a/b")), "{text}");
        }
        assert_eq!(url("redis://:x@cache").login.password.as_deref(), Some("x"));
        assert!(refused("redis://shop@cache").contains("passwordfile"));
    }

    #[test]
    fn a_password_may_be_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cr3t\n").unwrap();
        let file = file.path().display();
        let text = format!("redis+sentinel://shop@a/shop?passwordfile={file}");
        assert_eq!(url(&text).login.password.as_deref(), Some("s3cr3t"));
        let text = format!("redis+sentinel://a/shop?sentineluser=w&sentinelpasswordfile={file}");
        let Target::Sentinels { login, .. } = url(&text).target else { panic!("{text}") };
        assert_eq!((login.user.as_deref(), login.password.as_deref()), (Some("w"), Some("s3cr3t")));
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "redis://shop:s3cr3t@cache/1",
            "rediss://:s3cr3t@cache",
            "redis+unix:///run/r.sock?password=s3cr3t",
        ] {
            let url = url(text);
            let shown = format!("{url} {url:?} {:?}", url.login);
            assert!(!shown.contains("s3cr3t") && shown.contains("***"), "{shown}");
        }
        for text in [
            "s3cr3t",
            "http://shop:s3cr3t@cache",
            "redis://shop:x@s3cr3t@cache",
            "redis://shop:s3cr3t@cache/s3cr3t",
            "redis://shop:s3cr3t@cache?unknown=s3cr3t",
            "redis://shop:s3cr3t",
        ] {
            assert!(!refused(text).contains("s3cr3t"), "{}", refused(text));
        }
    }

    #[test]
    fn a_url_that_is_wrong_is_told_what_is_wrong_with_it() {
        for (text, told) in [
            ("cache:6379", "a Redis is redis://host"),
            ("redis://", "names no host"),
            ("redis://cache:x", "a port is no number"),
            ("redis://a,b", "several hosts are a Cluster"),
            ("redis://cache/one", "is a number"),
            ("redis://cache/-1", "is a number"),
            ("redis://cache/1?db=1", "named twice"),
            ("redis+cluster://cache/1", "one database only"),
            ("redis+sentinel://a,b", "name the primary"),
            ("redis+unix://run/r.sock", "by its whole path"),
            ("redis://cache?tls=yes", "\"tls\" is not known; known are db"),
        ] {
            assert!(refused(text).contains(told), "{text}: {}", refused(text));
        }
    }
}
