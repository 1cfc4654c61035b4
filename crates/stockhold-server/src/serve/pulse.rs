//! Whether anything still moves on a connection that many requests share.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use stockhold::clock::{Clock, SystemClock};

/// Counts what moves: requests that begin, and parts of bodies in either direction. Pings do not
/// count: they say that somebody is there, not that something is wanted.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for this long; notices it after twice as long at the latest.
    pub(super) async fn stops(&self, patience: Duration) {
        loop {
            let seen = self.0.load(Ordering::Relaxed);
            SystemClock.sleep(patience).await;
            if self.0.load(Ordering::Relaxed) == seen {
                return;
            }
        }
    }
}

/// A body each part of which is a beat.
pub(super) struct Beating<B> {
    body: B,
    pulse: Arc<Pulse>,
}

impl<B> Beating<B> {
    pub(super) const fn new(body: B, pulse: Arc<Pulse>) -> Self {
        Self { body, pulse }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Beating<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.pulse.beat();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn whatever_moves_now_and_then_goes_on() {
        let pulse = Arc::new(Pulse::default());
        let stops = tokio::spawn({
            let pulse = Arc::clone(&pulse);
            async move { pulse.stops(PATIENCE).await }
        });
        for _ in 0..9 {
            SystemClock.sleep(PATIENCE / 2).await;
            assert!(!stops.is_finished());
            pulse.beat();
        }
        SystemClock.sleep(PATIENCE * 2).await;
        assert!(stops.is_finished());
    }
}
