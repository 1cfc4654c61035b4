//! What one shopper does, over HTTP.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stockhold::clock::Clock;
use tokio::sync::Semaphore;

use super::{
    plan::{Ending, Item, Shopper, TTL, Want},
    tally::{Board, Event, Trouble},
};
use crate::client::{CallError, Connection, Reply};

/// How often a request is sent before its shopper gives up.
const TRIES: u32 = 6;
/// Before a request is sent again, if the server does not say when.
const PAUSE: Duration = Duration::from_millis(200);

/// The place where shoppers meet.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) items: Vec<Item>,
    /// For those who ask for a hold.
    pub(super) entrance: Lines,
    /// For those who have one: a crowd at the entrance must not keep them from paying in time.
    pub(super) checkout: Lines,
    pub(super) board: Board,
    pub(super) clock: Arc<dyn Clock>,
}

impl Shop {
    /// A whole visit: asks for a hold, thinks, and does what was planned with it.
    pub(super) async fn visit(self: Arc<Self>, shopper: Shopper) {
        let Some(hold) = self.obtain_hold(&shopper).await else { return };
        self.clock.sleep(shopper.thinks).await;
        match shopper.ending {
            Ending::Confirms => self.confirm(&hold, &shopper).await,
            Ending::Releases => self.release(&hold, &shopper).await,
            Ending::WalksAway => self.board.note(Event::WalkedAway),
        }
    }

    /// Asks for a hold, and comes back a few times if there is not enough.
    async fn obtain_hold(&self, shopper: &Shopper) -> Option<String> {
        let order = self.order(shopper);
        for pause in shopper.comes_back.iter().map(Some).chain([None]) {
            match self.place(&order, &shopper.key).await {
                Placing::Held(id) => return Some(id),
                Placing::Ended => return None,
                Placing::Refused => {}
            }
            match pause {
                Some(pause) => self.clock.sleep(*pause).await,
                None => self.board.note(Event::WentWithout),
            }
        }
        None
    }

    async fn place(&self, order: &Order<'_>, key: &str) -> Placing {
        let Some((reply, took)) = self.ask(&self.entrance, "/v1/holds", order, key).await else {
            self.board.note(Event::GaveUp);
            return Placing::Ended;
        };
        self.board.note(Event::Answered(took));
        match (reply.status, hold_id(&reply)) {
            (200 | 201, Some(id)) => {
                self.board.note(Event::Held);
                Placing::Held(id)
            }
            (409, _) => {
                self.board.note(Event::Refused);
                Placing::Refused
            }
            // The answer to an earlier try was lost, and the hold has died since.
            (410, _) => {
                self.board.note(Event::Held);
                self.board.note(Event::TooLate);
                Placing::Ended
            }
            _ => {
                self.unexpected(&reply);
                Placing::Ended
            }
        }
    }

    async fn confirm(&self, hold: &str, shopper: &Shopper) {
        let path = format!("/v1/holds/{hold}/confirm");
        match self.ask(&self.checkout, &path, &Nothing {}, &shopper.key).await {
            Some((reply, _)) if reply.is_success() => {
                self.board.note(Event::Confirmed(&shopper.wants));
            }
            Some((reply, _)) if reply.status == 410 => self.board.note(Event::TooLate),
            Some((reply, _)) => self.unexpected(&reply),
            None => self.board.note(Event::Unknown(&shopper.wants)),
        }
    }

    async fn release(&self, hold: &str, shopper: &Shopper) {
        let path = format!("/v1/holds/{hold}/release");
        match self.ask(&self.checkout, &path, &Nothing {}, &shopper.key).await {
            Some((reply, _)) if reply.is_success() && is_expired(&reply) => {
                self.board.note(Event::TooLate);
            }
            Some((reply, _)) if reply.is_success() => self.board.note(Event::Released),
            Some((reply, _)) => self.unexpected(&reply),
            None => self.board.note(Event::GaveUp),
        }
    }

    fn unexpected(&self, reply: &Reply) {
        self.board.note(Event::Trouble(Trouble::Unexpected(words(reply))));
        self.board.note(Event::GaveUp);
    }

    /// Asks until there is an answer that is about the matter; always with the same key, so that
    /// nothing is done twice. With how long that answer took.
    async fn ask<B: Serialize + Sync>(
        &self,
        lines: &Lines,
        path: &str,
        body: &B,
        key: &str,
    ) -> Option<(Reply, Duration)> {
        for _ in 0..TRIES {
            self.board.note(Event::Sent);
            let (answer, took) = lines.post(&*self.clock, path, body, key).await;
            let pause = answer.as_ref().ok().and_then(|reply| reply.retry_after).unwrap_or(PAUSE);
            match judge(answer) {
                Ok(reply) => {
                    if reply.replayed {
                        self.board.note(Event::Replayed);
                    }
                    return Some((reply, took));
                }
                Err(trouble) => self.board.note(Event::Trouble(trouble)),
            }
            self.clock.sleep(pause).await;
        }
        None
    }

    fn order<'a>(&'a self, shopper: &'a Shopper) -> Order<'a> {
        let line = |want: &Want| Line { sku: &self.items[want.item].sku, quantity: want.units };
        let lines = shopper.wants.iter().map(line).collect();
        Order { owner: &shopper.owner, ttl_ms: TTL.as_millis(), lines }
    }
}

/// What became of a place.
enum Placing {
    Held(String),
    Refused,
    Ended,
}

/// Tells an answer from trouble that may be over when it is tried again.
fn judge(answer: Result<Reply, CallError>) -> Result<Reply, Trouble> {
    match answer {
        Ok(reply) => match reply.status {
            429 => Err(Trouble::Overloaded),
            503 => Err(Trouble::Unavailable),
            500.. => Err(Trouble::ServerError(words(&reply))),
            _ => Ok(reply),
        },
        Err(CallError::TimedOut(_)) => Err(Trouble::TimedOut),
        Err(error) => Err(Trouble::Disconnected(error.to_string())),
    }
}

#[derive(Serialize)]
struct Order<'a> {
    owner: &'a str,
    ttl_ms: u128,
    lines: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    sku: &'a str,
    quantity: i64,
}

#[derive(Serialize)]
struct Nothing {}

fn hold_id(reply: &Reply) -> Option<String> {
    #[derive(Deserialize)]
    struct Hold {
        id: String,
    }
    reply.json::<Hold>().ok().map(|hold| hold.id)
}

fn is_expired(reply: &Reply) -> bool {
    #[derive(Deserialize)]
    struct Hold<'a> {
        state: &'a str,
    }
    reply.json::<Hold<'_>>().is_ok_and(|hold| hold.state == "expired")
}

/// An answer in short.
pub(super) fn words(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    format!("{} {}", reply.status, text.chars().take(300).collect::<String>())
}

/// The connections that all shoppers share, as the customers of a shop share those of its server.
#[derive(Debug)]
pub(super) struct Lines {
    free: Mutex<Vec<Connection>>,
    seats: Semaphore,
}

impl Lines {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let seats = Semaphore::new(connections.len());
        Self { free: Mutex::new(connections), seats }
    }

    /// Waits for a free connection, then sends. The time is that of the request alone.
    async fn post<B: Serialize + Sync>(
        &self,
        clock: &dyn Clock,
        path: &str,
        body: &B,
        key: &str,
    ) -> (Result<Reply, CallError>, Duration) {
        let _seat = self.seats.acquire().await.expect("it is never closed");
        let mut connection = self.pop().expect("there are as many as seats");
        let began = clock.boot();
        let answer = connection.post(path, body, Some(key)).await;
        let took = clock.boot().saturating_sub(began);
        self.push(connection);
        (answer, took)
    }

    fn pop(&self) -> Option<Connection> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn push(&self, connection: Connection) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> Result<Reply, CallError> {
        let body = r#"{"code":"x"}"#.into();
        Ok(Reply { status, replayed: false, retry_after: None, body })
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert_eq!(judge(reply(429)), Err(Trouble::Overloaded));
        assert_eq!(judge(reply(503)), Err(Trouble::Unavailable));
        assert_eq!(judge(reply(500)), Err(Trouble::ServerError(r#"500 {"code":"x"}"#.to_owned())));
        let late = CallError::TimedOut(Duration::from_secs(1));
        assert_eq!(judge(Err(late)), Err(Trouble::TimedOut));
        for status in [200, 201, 400, 404, 409, 410, 422] {
            assert!(judge(reply(status)).is_ok(), "{status}");
        }
    }
}
