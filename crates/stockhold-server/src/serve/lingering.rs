//! Bodies that nobody wants to read to their end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Bytes, HttpBody},
    http::{Request, header::EXPECT},
};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

/// So much of an unwanted body is thrown away, and for so long.
const MOST: usize = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// A body that is thrown away, not cut off, when its reader loses interest.
///
/// A sender that does not look before it is through would otherwise find its connection reset,
/// and never read why it was refused.
pub(super) struct Lingering<B: Body> {
    /// Until its end was seen.
    body: Option<B>,
    /// Whether its sender waits until it is told to go on; reading tells it so.
    waits: bool,
}

/// What a connection gives for a body.
pub(super) trait Body:
    HttpBody<Data = Bytes, Error = hyper::Error> + Send + Unpin + 'static
{
}

impl<B: HttpBody<Data = Bytes, Error = hyper::Error> + Send + Unpin + 'static> Body for B {}

impl<B: Body> Lingering<B> {
    pub(super) fn of(request: Request<B>) -> Request<Self> {
        let waits = request.headers().contains_key(EXPECT);
        request.map(|body| Self { body: Some(body), waits })
    }
}

impl<B: Body> HttpBody for Lingering<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: Body> Drop for Lingering<B> {
    fn drop(&mut self) {
        if self.waits || self.is_end_stream() {
            return;
        }
        if let (Some(body), Ok(runtime)) = (self.body.take(), Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, throw_away(body)));
        }
    }
}

async fn throw_away(mut body: impl Body) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
