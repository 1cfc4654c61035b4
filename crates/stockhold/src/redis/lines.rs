//! Connections to all servers that take writes, for whoever has to hear each of them.

use std::time::Duration;

use ::redis::{Cmd, RedisResult, Value, aio::MultiplexedConnection, cmd};

use super::{trouble::Trouble, url::Host};
use crate::clock::{SystemClock, within};

/// One to each server.
pub(crate) struct Lines {
    pub(crate) each: Vec<MultiplexedConnection>,
    /// Who they lead to, if that is a Cluster: it may have others later.
    members: Vec<Host>,
}

impl Lines {
    pub(super) fn to_one(line: MultiplexedConnection) -> Self {
        Self { each: vec![line], members: Vec::new() }
    }

    /// Which one leads where.
    pub(super) fn to_members(lines: Vec<(Host, MultiplexedConnection)>) -> Self {
        let (members, each) = lines.into_iter().unzip();
        Self { each, members }
    }

    /// Each is sent this, and has to answer in time.
    pub(super) async fn ask(&mut self, command: &Cmd, limit: Duration) -> Result<(), Trouble> {
        for line in &mut self.each {
            exchange(line, command, limit).await?;
        }
        Ok(())
    }

    /// Each answers in time, and no others take writes. The members of a Cluster answer with who does: what is written
    /// to one that joined later would not be heard of, though all that are asked are well.
    pub(super) async fn sign_of_life(&mut self, limit: Duration) -> Result<(), Trouble> {
        if self.members.is_empty() {
            return self.ask(&cmd("PING"), limit).await;
        }
        for (line, (name, _)) in self.each.iter_mut().zip(&self.members) {
            let answer = exchange(line, &slots(), limit).await?;
            let now = primaries(&answer, name)?;
            if now.len() != self.members.len() || now.iter().any(|one| !self.members.contains(one))
            {
                return Err(Trouble::other_members());
            }
        }
        Ok(())
    }
}

async fn exchange(
    line: &mut MultiplexedConnection,
    command: &Cmd,
    limit: Duration,
) -> Result<Value, Trouble> {
    let answer = within(&SystemClock, limit, line.send_packed_command(command)).await;
    let answer = answer.ok_or_else(|| Trouble::timeout(limit))?;
    answer.and_then(Value::extract_error).map_err(Trouble::from)
}

/// What a Cluster is asked for its members.
pub(super) fn slots() -> Cmd {
    let mut slots = cmd("CLUSTER");
    slots.arg("SLOTS");
    slots
}

/// The members of a Cluster that take writes, each once. One that has never met another does not know what others
/// call it: then that is how it was reached.
pub(super) fn primaries(slots: &Value, reached_as: &str) -> RedisResult<Vec<Host>> {
    let strange = || super::dial::odd("CLUSTER SLOTS was answered with something else");
    let Value::Array(ranges) = slots else { return Err(strange()) };
    let mut hosts = Vec::new();
    for range in ranges {
        let (name, port) = primary(range).ok_or_else(strange)?;
        let host = (if name.is_empty() { reached_as.to_owned() } else { name }, port);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Of a range of slots: the first, the last, and who has them, the primary first.
fn primary(range: &Value) -> Option<Host> {
    let Value::Array(parts) = range else { return None };
    let [_, _, Value::Array(primary), ..] = parts.as_slice() else { return None };
    let [name, Value::Int(port), ..] = primary.as_slice() else { return None };
    let name = match name {
        Value::Nil => String::new(),
        name => ::redis::from_redis_value_ref(name).ok()?,
    };
    Some((name, u16::try_from(*port).ok()?))
}
