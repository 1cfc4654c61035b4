//! All stock at once: lists that are loaded, and everything that there is. Both are streamed, so
//! that neither the server nor the client has to hold all of it.

mod columns;
mod export;
mod import;
mod lines;
mod outlet;
mod rows;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use stockhold::{Engine, LoadMode};

pub(crate) use self::rows::{write_header, write_row};
use self::{
    export::Export,
    import::{Import, Rows},
    lines::Lines,
    outlet::Outlet,
};
use crate::{
    extract::{Bounds, NoKey, Query, media_type, wrong_media_type},
    problem::Problem,
    wire::Format,
};

/// `POST /v1/stock-imports`
pub(crate) async fn import(
    State(engine): State<Engine>,
    Query(mode): Query<LoadMode>,
    NoKey: NoKey,
    request: Request,
) -> Result<Response, Problem> {
    let format = Format::ALL.into_iter().find(|format| media_type(&request, format.media_type()));
    let format = format.ok_or_else(|| wrong_media_type(Format::ALL.map(Format::media_type)))?;
    let patience = Bounds::of_request(&request).patience();
    let rows = Rows::begin(format, Lines::of(request.into_body(), patience)).await?;
    let (outlet, answer) = Outlet::open();
    tokio::spawn(Import::new(engine, mode, rows, outlet).run());
    Ok(streamed(Format::Ndjson, answer))
}

/// `GET /v1/stock-exports`
pub(crate) async fn export(
    State(engine): State<Engine>,
    Query(format): Query<Format>,
) -> Result<Response, Problem> {
    let (outlet, answer) = Outlet::open();
    let export = Export::begin(engine, format, outlet).await?;
    tokio::spawn(export.run());
    Ok(streamed(format, answer))
}

fn streamed(format: Format, answer: outlet::Streamed) -> Response {
    let media_type = HeaderValue::from_static(format.media_type());
    ([(CONTENT_TYPE, media_type)], axum::body::Body::new(answer)).into_response()
}
