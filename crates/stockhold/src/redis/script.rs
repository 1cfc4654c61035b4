//! Scripts that Redis runs in one piece.

use std::time::Duration;

use ::redis::{Cmd, ToRedisArgs, Value, cmd, from_redis_value};

/// A script, known to the server by the SHA-1 of its text.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: ::redis::Script::new(text).get_hash().to_owned() }
    }

    /// It, on these keys. In a Cluster all of them are in one slot.
    pub(crate) fn on<K: AsRef<[u8]>>(&self, keys: &[K]) -> Run<'_> {
        let mut args = keys.len().to_redis_args();
        args.extend(keys.iter().map(|key| key.as_ref().to_vec()));
        Run { script: self, args }
    }
}

/// A script with its keys and arguments.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    script: &'a Script,
    /// How many keys, the keys, and the arguments.
    args: Vec<Vec<u8>>,
}

impl Run<'_> {
    #[must_use]
    pub(crate) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.args.extend(arg.to_redis_args());
        self
    }

    /// For a server that knows the script.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// For one that does not: from now on it does.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(&self.args);
        command
    }
}

/// A duration as scripts take it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A text that a script has answered.
pub(crate) fn text(value: Value) -> Option<String> {
    from_redis_value(value).ok()
}

/// Milliseconds that a script has answered; a key that is gone, or has no end, has no time left.
pub(crate) fn duration(value: Value) -> Option<Duration> {
    let millis = from_redis_value::<i64>(value).ok()?;
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// All texts of an answer, however it is laid out; of a Cluster, those of each member.
pub(crate) fn texts_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) | Value::Set(values) => values.iter().flat_map(texts_of).collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(_, value)| texts_of(value)).collect(),
        other => text(other.clone()).into_iter().collect(),
    }
}
