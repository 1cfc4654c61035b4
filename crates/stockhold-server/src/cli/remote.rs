//! Talks to a server: where it is, who asks, and how long to wait.

use std::{fmt, fs, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use hyper::{Method, body::Bytes};
use serde_json::Value;
use stockhold::{IdempotencyKey, clock::SystemClock};

use super::{Doing, Fault, path::Path, refusal, say, url::Url, when::patience};
use crate::client::{CallError, Connection, Reply, Target};

/// Which server, and who asks. These options stand before or after any command, so their ids must
/// not be those of another one.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Talking to a server")]
pub(super) struct Remote {
    /// Where the server is, if not at `http://127.0.0.1:7300`
    #[arg(
        id = "server_url",
        long = "url",
        env = "STOCKHOLD_URL",
        value_name = "URL",
        global = true
    )]
    url: Option<String>,

    /// The access key. Others on this machine can see arguments: the variable or a file is safer
    #[arg(
        id = "access_key",
        long = "key",
        env = "STOCKHOLD_KEY",
        hide_env_values = true,
        value_name = "KEY",
        global = true
    )]
    key: Option<Secret>,

    /// A file with the access key in it
    #[arg(id = "access_key_file", long = "key-file", value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,

    /// For https: a PEM file with the certificate of the server, or of who signed it
    #[arg(id = "authority", long = "ca", env = "STOCKHOLD_CA", value_name = "FILE", global = true)]
    authorities: Option<PathBuf>,

    /// How long to wait for an answer
    #[arg(
        id = "answer_timeout",
        long = "timeout",
        default_value = "10s",
        value_parser = patience,
        value_name = "TIME",
        global = true
    )]
    timeout: Duration,
}

impl Remote {
    /// Connects, and has somebody talk.
    pub(super) fn talk<T>(
        &self,
        with: impl AsyncFnOnce(&mut Server) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        one_thread()?.block_on(async {
            let mut server = self.connect().await?;
            with(&mut server).await
        })
    }

    async fn connect(&self) -> Result<Server, Fault> {
        let (connection, url) = self.connection().await?;
        Ok(Server { connection, url })
    }

    /// For whoever asks for other things than a [`Server`] does.
    pub(super) async fn connection(&self) -> Result<(Connection, Url), Fault> {
        let (url, target) = self.target()?;
        let connection = Connection::to(target, self.timeout, Arc::new(SystemClock)).await;
        let connection = connection.map_err(|error| unanswered(&url, &error, None))?;
        Ok((connection, url))
    }

    /// Whether a server was named.
    pub(super) const fn is_named(&self) -> bool {
        self.url.is_some()
    }

    /// The server and who asks, for whoever talks in another way.
    pub(super) fn target(&self) -> Result<(Url, Target), Fault> {
        let url = self.url()?;
        let mut target = Target::new(&url.authority).doing("--url")?;
        if url.is_sealed {
            let ca = self.authorities.as_ref().ok_or_else(no_authority)?;
            target = target.over_tls(ca).doing(&format!("--ca {}", ca.display()))?;
        }
        let target = match self.access_key()? {
            Some(Secret(key)) => target.with_key(&key).doing("the access key")?,
            None => target,
        };
        Ok((url, target))
    }

    /// Read only here: a wrong variable is no matter to a command that asks nobody.
    fn url(&self) -> Result<Url, Fault> {
        let Some(url) = &self.url else { return Ok(Url::default()) };
        url.parse().map_err(|wrong| Fault::usage(format!("--url {url}: {wrong}")))
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    fn access_key(&self) -> Result<Option<Secret>, Fault> {
        let Some(file) = &self.key_file else { return Ok(self.key.clone()) };
        let text = fs::read_to_string(file).doing(&format!("--key-file {}", file.display()))?;
        match text.trim() {
            "" => {
                Err(Fault::usage(format!("--key-file {}: there is no key in it", file.display())))
            }
            key => Ok(Some(Secret(key.to_owned()))),
        }
    }
}

/// A runtime for commands that wait for one thing at a time.
pub(super) fn one_thread() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().doing("no runtime to be had")
}

/// A word that is never shown.
#[derive(Clone)]
struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn no_authority() -> Fault {
    Fault::usage(
        "https needs --ca FILE (or STOCKHOLD_CA): the certificate of the server in PEM, or of who signed it",
    )
}

/// A request that may be sent twice without harm: it reads, or says what is to be so, or has an
/// idempotency key.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    path: Path,
    body: Bytes,
    key: Option<IdempotencyKey>,
}

impl Ask {
    pub(super) fn get(path: Path) -> Self {
        Self { method: Method::GET, path, body: Bytes::new(), key: None }
    }

    pub(super) fn put(path: Path, body: Value) -> Self {
        Self { method: Method::PUT, path, body: written(body), key: None }
    }

    /// With a key that is made up if none is given.
    pub(super) fn post(
        path: Path,
        body: Value,
        key: Option<IdempotencyKey>,
    ) -> Result<Self, Fault> {
        let key = key.map_or_else(random_key, Ok)?;
        Ok(Self { method: Method::POST, path, body: written(body), key: Some(key) })
    }
}

/// What is not given is left out.
fn written(mut body: Value) -> Bytes {
    if let Value::Object(fields) = &mut body {
        fields.retain(|_, value| !value.is_null());
    }
    body.to_string().into()
}

fn random_key() -> Result<IdempotencyKey, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).doing("no random numbers to be had")?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    IdempotencyKey::new(text).doing("a key")
}

/// A server that took the connection.
#[derive(Debug)]
pub(super) struct Server {
    connection: Connection,
    url: Url,
}

impl Server {
    /// Asks, and if the connection breaks, asks once more. A refusal is a fault.
    pub(super) async fn ask(&mut self, ask: &Ask) -> Result<Reply, Fault> {
        let mut answer = self.send(ask).await;
        if matches!(answer, Err(CallError::Lost(_))) {
            answer = self.send(ask).await;
        }
        match answer {
            Ok(reply) if reply.is_success() => Ok(reply),
            Ok(reply) => Err(refusal::fault(&reply, ask.key.as_ref())),
            Err(error) => Err(unanswered(&self.url, &error, ask.key.as_ref())),
        }
    }

    async fn send(&mut self, ask: &Ask) -> Result<Reply, CallError> {
        let key = ask.key.as_ref().map(IdempotencyKey::as_str);
        self.connection.send(ask.method.clone(), ask.path.as_str(), ask.body.clone(), key).await
    }
}

/// What to do when there is no answer.
pub(super) fn unanswered(url: &Url, error: &CallError, key: Option<&IdempotencyKey>) -> Fault {
    let mut message = format!("{url}: {error}");
    match error {
        CallError::Unreachable(_) if url.is_sealed => {
            message.push_str(
                "\n  is a server running there, and is its certificate in the file of --ca?",
            );
        }
        CallError::Unreachable(_) => {
            let listen = &url.authority;
            message.push_str(&format!(
                "\n  is a server running? one is started with: stockhold serve --listen {listen}\
                 \n  another address is given with --url or STOCKHOLD_URL"
            ));
        }
        CallError::Lost(_) | CallError::TimedOut(_) => {
            if let Some(key) = key {
                message.push_str(&format!(
                    "\n  it may have been done; to find out, repeat the command with: \
                     --idempotency-key {key}"
                ));
            }
        }
        CallError::Unspeakable(_) => {}
    }
    Fault::error(message)
}

/// Prints an answer: as it came, or in words.
pub(super) fn show<T: serde::de::DeserializeOwned>(
    reply: &Reply,
    json: bool,
    words: impl FnOnce(&T) -> String,
) -> Result<(), Fault> {
    if json {
        return say(&String::from_utf8_lossy(&reply.body));
    }
    say(words(&parsed(reply)?).trim_end())
}

/// An answer, read.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, Fault> {
    reply.json().doing("the answer is not that of a stockhold server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret: Secret = "sh_1234".parse().unwrap();
        assert!(!format!("{secret:?}").contains("1234"));
    }

    #[test]
    fn made_up_keys_differ() {
        assert_ne!(random_key().unwrap(), random_key().unwrap());
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        let body = serde_json::json!({"ttl_ms": null, "owner": "ann"});
        assert_eq!(&written(body)[..], br#"{"owner":"ann"}"#);
    }
}
