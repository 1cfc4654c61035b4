//! The settings: what they are, and what they may be. `default.toml` says what each means.
//!
//! A field has the type that knows its range, so settings that exist are right, but for what
//! [`Settings`] compares with each other.

#[cfg(test)]
mod guide;
mod layers;
mod value;

use std::{fmt, net::SocketAddr, path::Path, str::FromStr, sync::LazyLock};

use serde::{Deserialize, Serialize};
use stockhold::{Failure, Quantity, redis::RedisUrl};

pub(crate) use self::value::text;
use self::value::{DAY, HOUR, MINUTE, SECOND};
pub use self::{
    layers::{Layers, SettingsError},
    value::{Count, Lasting},
};
use crate::{
    access::{Key, Keys},
    cli::LedgerUrl,
};

/// The defaults, with their meaning.
pub(crate) const DEFAULTS: &str = include_str!("../default.toml");

/// Everything that can be set. [`Layers::read`] is the way to them; the default is `default.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each section is about")]
pub struct Settings {
    pub server: Server,
    pub ledger: Ledger,
    pub redis: Redis,
    pub cache: Cache,
    pub limits: Limits,
    pub engine: Engine,
    pub retention: Retention,
    pub log: Log,
    #[serde(default)]
    pub keys: Vec<Key>,
}

/// How the service is reached, and how patient it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Server {
    pub listen: SocketAddr,
    pub insecure: bool,
    pub max_connections: Count<1, 1_000_000>,
    pub head_timeout: Lasting<SECOND, HOUR>,
    pub body_timeout: Lasting<SECOND, HOUR>,
    pub write_timeout: Lasting<SECOND, HOUR>,
    pub handshake_timeout: Lasting<SECOND, { 10 * MINUTE }>,
    pub shutdown_timeout: Lasting<0, HOUR>,
    pub max_body: Count<1_024, 16_777_216>,
    pub max_batch_body: Count<1_024, 67_108_864>,
    pub tls_certificate: String,
    pub tls_key: String,
}

/// Where stock and holds are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Ledger {
    #[serde(with = "text")]
    pub url: LedgerUrl,
    pub readers: Count<1, 64>,
    pub cache_mib: Count<1, 65_536>,
    pub connections: Count<2, 1_000>,
    pub allow_unsafe: bool,
}

/// Redis, which several instances share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Redis {
    #[serde(with = "text")]
    pub url: MaybeRedis,
    pub namespace: String,
}

/// Where Redis is, if there is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaybeRedis(pub Option<RedisUrl>);

impl FromStr for MaybeRedis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = text.parse().map_err(|e: Failure| format!("{}", e.chain()))?;
        Ok(Self(Some(url)))
    }
}

impl fmt::Display for MaybeRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |url| url.fmt(f))
    }
}

/// Copies of stock items.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Cache {
    pub size_mib: Count<1, 65_536>,
    pub refuse_within: Lasting<0, { 10 * SECOND }>,
}

/// What a shopper may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Limits {
    pub default_ttl: Lasting<1, { 7 * DAY }>,
    pub min_ttl: Lasting<1, { 7 * DAY }>,
    pub max_ttl: Lasting<1, { 7 * DAY }>,
    pub max_lifetime: Lasting<1, { 7 * DAY }>,
    pub max_lines: Count<1, 1_000>,
    pub max_quantity: Count<1, 1_000_000_000>,
}

impl Limits {
    /// As the ledger takes them.
    #[must_use]
    pub fn to_core(&self) -> stockhold::Limits {
        stockhold::Limits {
            default_ttl: self.default_ttl.get(),
            min_ttl: self.min_ttl.get(),
            max_ttl: self.max_ttl.get(),
            max_lifetime: self.max_lifetime.get(),
            max_lines: self.max_lines.size(),
            max_quantity: Quantity::new(self.max_quantity.get().into()).unwrap_or(Quantity::MAX),
        }
    }
}

/// How work is gathered into transactions, and how long anybody waits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Engine {
    pub lanes: Count<0, 64>,
    pub batch_commands: Count<3, 100_000>,
    pub batch_bytes: Count<65_536, 67_108_864>,
    pub max_behind: Lasting<1, MINUTE>,
    pub max_waiting: Count<1, 10_000_000>,
    pub command_deadline: Lasting<100, { 5 * MINUTE }>,
    pub sweep_batch: Count<1, 100_000>,
    pub heartbeat: Lasting<10, { 2 * SECOND }>,
    pub verify_every: Lasting<0, { 7 * DAY }>,
}

/// How long holds that have ended are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Retention {
    pub age: Lasting<DAY, { 36_500 * DAY }>,
    pub pause: Lasting<SECOND, { 7 * DAY }>,
}

/// What is told on stderr.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml says what each setting means")]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        static ONCE: LazyLock<Settings> = LazyLock::new(|| match Layers::default().read() {
            Ok(settings) => settings,
            Err(error) => unreachable!("a test reads default.toml: {error}"),
        });
        ONCE.clone()
    }
}

impl Settings {
    /// As the engine takes them.
    #[must_use]
    pub fn to_engine(&self) -> stockhold::Settings {
        let Engine {
            lanes,
            batch_commands,
            batch_bytes,
            max_behind,
            max_waiting,
            command_deadline,
            sweep_batch,
            heartbeat,
            verify_every,
        } = self.engine;
        stockhold::Settings {
            lanes: lanes.size(),
            batch_commands: batch_commands.size(),
            batch_bytes: batch_bytes.size(),
            max_behind: max_behind.get(),
            max_waiting: max_waiting.size(),
            command_deadline: command_deadline.get(),
            sweep_batch: sweep_batch.size(),
            heartbeat: heartbeat.get(),
            retention: self.retention.age.get(),
            retention_pause: self.retention.pause.get(),
            verify_every: verify_every.get(),
        }
    }

    /// The keys, as a server looks them up.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.keys.iter().cloned().collect()
    }

    /// As TOML, with the hashes of keys shortened.
    ///
    /// # Errors
    /// None in practice: every setting can be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// What is right by itself, and wrong beside another setting: the setting, and what it must be.
    fn check(&self) -> Result<(), (String, String)> {
        let limits = self.limits.to_core().check();
        limits.map_err(|e| (format!("limits.{}", e.name), format!("must be {}", e.rule)))?;
        self.server.check()?;
        self.redis.check()?;
        check_keys(&self.keys)
    }
}

impl Server {
    /// The files of the certificate and of its key, if the service is to speak TLS.
    #[must_use]
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        let files = (Path::new(&self.tls_certificate), Path::new(&self.tls_key));
        (!self.tls_certificate.is_empty()).then_some(files)
    }

    fn check(&self) -> Result<(), (String, String)> {
        if self.tls_certificate.is_empty() != self.tls_key.is_empty() {
            let wrong = "and server.tls_certificate belong together: give both, or none";
            return Err(("server.tls_key".to_owned(), wrong.to_owned()));
        }
        Ok(())
    }
}

impl Redis {
    fn check(&self) -> Result<(), (String, String)> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if (1..=64).contains(&self.namespace.len()) && self.namespace.bytes().all(is_plain) {
            return Ok(());
        }
        let wrong = "must have 1 to 64 letters, digits, or any of - _ . :";
        Err(("redis.namespace".to_owned(), wrong.to_owned()))
    }
}

fn check_keys(keys: &[Key]) -> Result<(), (String, String)> {
    for (n, key) in keys.iter().enumerate() {
        let wrong = |field, rule: &str| Err((format!("keys[{n}].{field}"), rule.to_owned()));
        let earlier = keys.get(..n).unwrap_or_default();
        if !(1..=64).contains(&key.name.len()) || !key.name.bytes().all(|b| b.is_ascii_graphic()) {
            return wrong("name", "must have 1 to 64 visible characters of ASCII");
        }
        if earlier.iter().any(|other| other.name == key.name) {
            return wrong("name", "is the name of an earlier key as well");
        }
        if earlier.iter().any(|other| other.sha256 == key.sha256) {
            return wrong("sha256", "is that of an earlier key as well");
        }
        if key.scopes == crate::access::Scopes::default() {
            return wrong("scopes", "must name one at least: read, holds, stock, locks or admin");
        }
    }
    Ok(())
}
