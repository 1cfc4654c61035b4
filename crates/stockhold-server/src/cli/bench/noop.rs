//! `stockhold bench-noop`: a server that answers as if it had placed a hold.
//!
//! It is what HTTP, parsing and validating cost by themselves on this framework, and so the
//! ceiling of what the service can reach.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use http_body_util::BodyExt;
use stockhold::{Engine, ItemKey, Quantity, Sku};
use tokio::net::TcpListener;

use super::{
    super::{Exit, Fault, runtime, say},
    Doing,
    plan::Items,
    workload::{Random, Wishes},
};
use crate::{
    answer,
    extract::{Json, Key, NoQuery},
    problem::Problem,
    wire::{Asked, PlaceBody},
};

/// Serves `POST /v1/holds` and does nothing; for `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Noop {}

impl Noop {
    /// How it is called.
    pub(super) const NAME: &'static str = "bench-noop";

    pub(in super::super) fn run(self) -> Result<Exit, Fault> {
        let Self {} = self;
        runtime()?.block_on(serve())?;
        Ok(Exit::Ok)
    }
}

async fn serve() -> Result<(), Fault> {
    let answer = Arc::new(Answer::typical().await?);
    let router = Router::new().route("/v1/holds", post(place)).with_state(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
    let address = listener.local_addr().doing("listening")?;
    say(&format!("listening on http://{address} (does nothing)"))?;
    let listener = listener.tap_io(|stream| {
        // As the service does; without it, it is only slower.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.doing("serving")
}

async fn place(
    State(answer): State<Arc<Answer>>,
    NoQuery: NoQuery,
    Key(key): Key,
    Json(body): Json<PlaceBody>,
) -> Result<Response, Problem> {
    let _request = body.request(key)?;
    Ok(answer.response())
}

/// What is answered, again and again.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// As the service answers a hold of this workload.
    async fn typical() -> Result<Self, Fault> {
        let (asked, engine) = (Asked::now(), Engine::in_memory()?);
        let sku = Items::Hot.skus().swap_remove(0);
        let item = ItemKey::at_default(Sku::new(sku).doing("a SKU")?);
        engine.set_policy(&item, Some(Quantity::ONE), None).await.doing("an item")?;
        let wishes = Wishes::new(Items::Hot, std::time::Duration::from_secs(5))?;
        let placed = engine.place(wishes.next(&mut Random::new())?).await.doing("a hold")?;
        engine.close().await?;
        let response = answer::Answer::placed(&placed, asked).into_response();
        let (mut parts, body) = response.into_parts();
        // The service names every answer.
        let name = HeaderName::from_static("x-request-id");
        parts.headers.insert(name, HeaderValue::from_static("0123456789abcdef-12345"));
        let body = body.collect().await.doing("an answer")?.to_bytes();
        Ok(Self { headers: parts.headers, body })
    }

    fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = StatusCode::CREATED;
        *response.headers_mut() = self.headers.clone();
        response
    }
}
