//! One connection that speaks HTTP/1.1, driven by whoever waits for it.

use std::{
    error::Error,
    pin::{Pin, pin},
    task::Context,
};

use super::{CallError, Target, tls::Wire, unreachable};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Incoming},
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;

/// Why a link gave no answer.
pub(super) enum Broken<B> {
    /// The request never left; here it is again.
    Unsent(hyper::Error, Box<Request<B>>),
    /// The request, or a part of it, was sent.
    Sent(hyper::Error),
}

impl<B> From<TrySendError<Request<B>>> for Broken<B> {
    fn from(mut error: TrySendError<Request<B>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(error.into_error(), Box::new(request)),
            None => Self::Sent(error.into_error()),
        }
    }
}

impl<B> From<hyper::Error> for Broken<B> {
    fn from(error: hyper::Error) -> Self {
        Self::Sent(error)
    }
}

/// An open connection that sends bodies of this sort.
pub(super) struct Link<B: Body<Data = Bytes> + 'static> {
    sender: SendRequest<B>,
    driver: Driver<B>,
}

impl<B> Link<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    pub(super) async fn open(target: &Target) -> Result<Self, CallError> {
        let wire = Wire::open(&target.address, target.trust.as_ref()).await;
        let wire = wire.map_err(CallError::Unreachable)?;
        let (sender, http) = http1::handshake(TokioIo::new(wire)).await.map_err(unreachable)?;
        Ok(Self { sender, driver: Driver { http: Some(http) } })
    }

    /// Sends a request, and reads the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Broken<B>> {
        let Self { sender, driver } = self;
        // Here it shows whether the server has closed it; then the request is handed back below.
        let _closed = driver.along(sender.ready()).await;
        Ok(driver.along(sender.try_send_request(request)).await?)
    }

    /// Waits for the future, and drives the connection meanwhile.
    pub(super) async fn along<F: Future>(&mut self, future: F) -> F::Output {
        self.driver.along(future).await
    }
}

/// What moves the bytes, as long as somebody polls it.
struct Driver<B: Body<Data = Bytes> + 'static> {
    /// None when it came to its end. To drop it tells those who wait for it: hyper then hands a
    /// request back that was not sent.
    http: Option<http1::Connection<TokioIo<Wire>, B>>,
}

impl<B> Driver<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    async fn along<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            self.poll(context);
            future.as_mut().poll(context)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        let ended = self.http.as_mut().is_some_and(|http| Pin::new(http).poll(context).is_ready());
        if ended {
            // If that was an error, the request that waits hears of it.
            self.http = None;
        }
    }
}
