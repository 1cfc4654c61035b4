//! Deadlines.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockhold::clock::Clock;

use super::CallError;

/// Sees to it that nobody waits for longer than the limit.
///
/// A timer for every request would cost as much as the rest of it. So the timer is left running
/// from one request to the next; when it fires, the request that waits is asked for its age.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    limit: Duration,
    timer: Option<Timer>,
}

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Watch {
    pub(super) fn new(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self { clock, limit, timer: None }
    }

    pub(super) async fn within<F: Future>(&mut self, future: F) -> Result<F::Output, CallError> {
        let latest = self.clock.boot().saturating_add(self.limit);
        let mut future = pin!(future);
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_late(latest, context).map(Err),
        })
        .await
    }

    fn poll_late(&mut self, latest: Duration, context: &mut Context<'_>) -> Poll<CallError> {
        let mut left = self.limit;
        loop {
            let timer = self.timer.get_or_insert_with(|| timer(Arc::clone(&self.clock), left));
            ready!(timer.as_mut().poll(context));
            self.timer = None;
            left = latest.saturating_sub(self.clock.boot());
            if left.is_zero() {
                return Poll::Ready(CallError::TimedOut(self.limit));
            }
        }
    }
}

fn timer(clock: Arc<dyn Clock>, duration: Duration) -> Timer {
    Box::pin(async move { clock.sleep(duration).await })
}
