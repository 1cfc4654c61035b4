//! An answer that is written while it is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc::{self, error::TrySendError};

/// So much may wait for a client that is busy sending before it takes its answer.
const MOST: usize = 4 * 1024 * 1024;

/// Where an answer is put in.
pub(super) struct Outlet {
    parts: mpsc::Sender<Part>,
    pending: Vec<u8>,
}

enum Part {
    Bytes(Bytes),
    End,
}

/// Nobody takes the answer any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Outlet {
    pub(super) fn open() -> (Self, Streamed) {
        let (parts, waiting) = mpsc::channel(1);
        (
            Self { parts, pending: Vec::new() },
            Streamed { parts: waiting, is_whole: false, is_broken: false },
        )
    }

    /// Puts a line in; it is not yet on its way.
    pub(super) fn add(&mut self, line: &impl Serialize) {
        // Our own types have text keys and no failing parts, and a Vec takes everything.
        let _ = serde_json::to_writer(&mut self.pending, line);
        self.pending.push(b'\n');
    }

    /// Where text is put in; it is not yet on its way.
    pub(super) const fn text(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Sends what was put in, as far as it is taken; waits only if too much is left.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.pending.is_empty() {
            return if self.parts.is_closed() { Err(Gone) } else { Ok(()) };
        }
        if self.pending.len() >= MOST {
            return self.push().await;
        }
        match self.parts.try_send(Part::Bytes(std::mem::take(&mut self.pending).into())) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Part::Bytes(bytes))) => {
                self.pending = bytes.into();
                Ok(())
            }
            Err(TrySendError::Full(Part::End) | TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Sends what was put in, and waits until it is taken. That somebody takes it is seen to by
    /// the connection, which breaks if nobody does.
    pub(super) async fn push(&mut self) -> Result<(), Gone> {
        let bytes = std::mem::take(&mut self.pending).into();
        self.parts.send(Part::Bytes(bytes)).await.map_err(|_| Gone)
    }

    /// The answer is whole. One that is not ended is sent as broken off.
    pub(super) async fn end(mut self) -> Result<(), Gone> {
        self.push().await?;
        self.parts.send(Part::End).await.map_err(|_| Gone)
    }
}

/// The body of the answer.
pub(super) struct Streamed {
    parts: mpsc::Receiver<Part>,
    is_whole: bool,
    is_broken: bool,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.parts.poll_recv(context)) {
            Some(Part::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Part::End) => {
                self.is_whole = true;
                None
            }
            None if self.is_broken => Some(Err(io::Error::other("the answer broke off"))),
            None => {
                // What was said last is sent before the connection breaks.
                self.is_broken = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_whole
    }
}
