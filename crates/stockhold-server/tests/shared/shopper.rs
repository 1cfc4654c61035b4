//! Clients: each has a connection of its own to one instance, and may write down what happens.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use stockhold::clock::SystemClock;
use stockhold_server::client::{CallError, Connection, Reply};
use stockhold_testkit::{
    Recorder,
    history::{Fence, Granted, Line, Op, Pending},
};

/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one instance.
pub(crate) struct Shopper {
    address: String,
    line: Option<Connection>,
    recorder: Arc<Recorder>,
    patience: Duration,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// There was an answer.
    Answer(Answer),
    /// None came: why.
    Nothing(#[expect(dead_code, reason = "shown when a test expected an answer")] String),
}

/// An answer, whatever it says.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Value,
}

impl Shopper {
    pub(crate) fn new(address: &str) -> Self {
        Self::recorded(address, &Arc::new(Recorder::new("nobody")))
    }

    /// Whose places, confirms, releases, extensions, receipts and locks are written down.
    pub(crate) fn recorded(address: &str, recorder: &Arc<Recorder>) -> Self {
        let (address, recorder) = (address.to_owned(), Arc::clone(recorder));
        Self { address, line: None, recorder, patience: PATIENCE }
    }

    /// Who waits for so long, and no longer.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks another instance from now on.
    pub(crate) fn turn_to(&mut self, address: &str) {
        address.clone_into(&mut self.address);
        self.line = None;
    }

    /// Places a hold of these lines for so long, under a key that is also its owner.
    pub(crate) async fn place(&mut self, key: &str, lines: &[(&str, i64)], ttl: Duration) -> Told {
        self.place_in_stead(key, lines, ttl, None).await
    }

    /// The same, instead of another hold.
    pub(crate) async fn place_in_stead(
        &mut self,
        key: &str,
        lines: &[(&str, i64)],
        ttl: Duration,
        replaces: Option<&str>,
    ) -> Told {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
        let mut body = json!({"owner": key, "ttl_ms": ttl_ms, "lines": body_lines(lines)});
        if let Some(old) = replaces {
            body["replaces"] = old.into();
        }
        let (owner, replaces) = (key.to_owned(), replaces.map(str::to_owned));
        let op = Op::Place { owner, ttl_ms, replaces };
        self.recorded_post("/v1/holds", &body, Some(key), op, lines).await
    }

    /// Confirms a hold, as it was placed.
    pub(crate) async fn confirm(&mut self, hold: &str) -> Told {
        self.confirm_with(hold, &json!({}), None).await
    }

    /// Confirms a hold with a body and a key.
    pub(crate) async fn confirm_with(
        &mut self,
        hold: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Told {
        let lines: Vec<_> = body["lines"].as_array().into_iter().flatten().collect();
        let lines: Vec<_> = lines
            .into_iter()
            .map(|line| (line["sku"].as_str().unwrap(), line["quantity"].as_i64().unwrap()))
            .collect();
        let op = Op::Confirm { hold: hold.to_owned() };
        self.recorded_post(&format!("/v1/holds/{hold}/confirm"), body, key, op, &lines).await
    }

    /// Releases a hold.
    pub(crate) async fn release(&mut self, hold: &str) -> Told {
        let op = Op::Release { hold: hold.to_owned() };
        self.recorded_post(&format!("/v1/holds/{hold}/release"), &json!({}), None, op, &[]).await
    }

    /// Lets a hold live for so long from now on.
    pub(crate) async fn extend(&mut self, hold: &str, ttl: Duration) -> Told {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
        let op = Op::Extend { hold: hold.to_owned(), ttl_ms };
        let (path, body) = (format!("/v1/holds/{hold}/extend"), json!({"ttl_ms": ttl_ms}));
        self.recorded_post(&path, &body, None, op, &[]).await
    }

    /// So many units come.
    pub(crate) async fn receive(&mut self, sku: &str, units: i64, key: &str) -> Told {
        let path = format!("/v1/stock/{sku}/adjustments");
        let body = json!({"receive": units});
        self.recorded_post(&path, &body, Some(key), Op::Receive, &[(sku, units)]).await
    }

    /// Takes a lock, and waits for its turn for a while.
    pub(crate) async fn acquire(&mut self, lock: &str, token: &str, ttl: Duration) -> Told {
        const WAIT: Duration = Duration::from_millis(200);
        let [ttl_ms, wait_ms] = [ttl, WAIT].map(|time| u64::try_from(time.as_millis()).unwrap());
        let body = json!({"token": token, "ttl_ms": ttl_ms, "wait_ms": wait_ms});
        let op = Op::Acquire { lock: lock.to_owned() };
        self.recorded_post(&format!("/v1/locks/{lock}"), &body, None, op, &[]).await
    }

    /// Gives a lock back that was taken with this token.
    pub(crate) async fn unlock(&mut self, lock: &str, token: &str, fence: Fence) -> Told {
        let (path, body) = (format!("/v1/locks/{lock}/release"), json!({"token": token}));
        let op = Op::Unlock { lock: lock.to_owned(), fence };
        self.recorded_post(&path, &body, None, op, &[]).await
    }

    /// An item with so many units.
    pub(crate) async fn put_stock(&mut self, sku: &str, on_hand: i64) {
        let (path, body) = (format!("/v1/stock/{sku}"), json!({"on_hand": on_hand}));
        let told = self.ask("PUT", &path, &body, None).await;
        told.expect_any(&[200, 201]);
    }

    /// Asks without writing it down.
    pub(crate) async fn get(&mut self, path: &str) -> Told {
        self.ask("GET", path, &Value::Null, None).await
    }

    /// A text, such as the metrics.
    pub(crate) async fn text(&mut self, path: &str) -> String {
        let reply = self.try_ask("GET", path, String::new(), None).await;
        String::from_utf8(reply.unwrap().body.to_vec()).unwrap()
    }

    /// Asks without writing it down.
    pub(crate) async fn post(&mut self, path: &str, body: &Value, key: Option<&str>) -> Told {
        self.ask("POST", path, body, key).await
    }

    /// Asks without writing it down. `null` is no body.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Told {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        match self.try_ask(method, path, body, key).await {
            Ok(reply) => Told::Answer(reply.into()),
            Err(error) => {
                self.line = None;
                Told::Nothing(error.to_string())
            }
        }
    }

    async fn try_ask(
        &mut self,
        method: &str,
        path: &str,
        body: String,
        key: Option<&str>,
    ) -> Result<Reply, CallError> {
        let line = match self.line.take() {
            Some(line) => line,
            None => {
                Connection::connect(&self.address, self.patience, Arc::new(SystemClock)).await?
            }
        };
        let line = self.line.insert(line);
        line.send(method.parse().unwrap(), path, body.into(), key).await
    }

    async fn recorded_post(
        &mut self,
        path: &str,
        body: &Value,
        key: Option<&str>,
        op: Op,
        lines: &[(&str, i64)],
    ) -> Told {
        let recorder = Arc::clone(&self.recorder);
        let lines = lines.iter().map(|(sku, units)| Line::new(sku, *units)).collect();
        let pending = recorder.ask(op, key, lines);
        let told = self.post(path, body, key).await;
        told.record(pending);
        told
    }
}

fn body_lines(lines: &[(&str, i64)]) -> Value {
    lines.iter().map(|(sku, units)| json!({"sku": sku, "quantity": units})).collect()
}

impl Told {
    /// The status, or 0 where nobody answered.
    pub(crate) fn status(&self) -> u16 {
        self.answer().map_or(0, |answer| answer.status)
    }

    /// Whether it says that this was done before.
    pub(crate) fn is_replayed(&self) -> bool {
        self.answer().is_some_and(|answer| answer.replayed)
    }

    /// The code of a problem, if it is one.
    pub(crate) fn code(&self) -> Option<&str> {
        self.answer()?.body["code"].as_str()
    }

    /// The fence of the lease that was granted.
    pub(crate) fn fence(&self) -> Option<Fence> {
        let fence = self.answer()?.body.get("fence")?;
        Some((fence["epoch"].as_u64()?, fence["seq"].as_u64()?))
    }

    /// The id of the hold that was placed.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.expect_any(&[200, 201])["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Nothing(_) => None,
        }
    }

    /// Whether it is not known what was done: no answer, or one that does not say.
    pub(crate) fn is_unknown(&self) -> bool {
        self.answer().is_none_or(|answer| answer.status == 503)
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn expect_status(&self, status: u16) -> Value {
        self.expect_any(&[status])
    }

    /// The body of an answer with one of these.
    #[track_caller]
    pub(crate) fn expect_any(&self, statuses: &[u16]) -> Value {
        match self {
            Self::Answer(answer) if statuses.contains(&answer.status) => answer.body.clone(),
            other => panic!("expected {statuses:?}, was told {other:?}"),
        }
    }

    fn record(&self, pending: Pending<'_>) {
        match self {
            Self::Answer(answer) if (200..300).contains(&answer.status) => {
                let text = |name: &str| answer.body[name].as_str().map(str::to_owned);
                let live_ms = answer.body["expires_in_ms"].as_u64();
                let (hold, state) = (text("id"), text("state"));
                pending.ok(Granted { hold, state, live_ms, fence: self.fence() });
            }
            told if told.is_unknown() => pending.unknown(),
            told => pending.refused(told.code().unwrap_or("no code")),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let body = reply.json().unwrap_or(Value::Null);
        let Reply { status, replayed, retry_after, .. } = reply;
        Self { status, replayed, retry_after, body }
    }
}
