//! stockhold as a service beside a shop: HTTP, and the command line.
//!
//! A request goes through these files, from the outside in:
//!
//! | file | what it does |
//! |---|---|
//! | `serve.rs` | takes connections, guards them, and ends in good order |
//! | `settings.rs` and `default.toml` | what can be set, and what it is by default |
//! | `routes.rs` | which path and verb leads where, and the scope that it takes |
//! | `access.rs` and `access/` | who asks, and whether that one may |
//! | `extract.rs` | takes a request apart: path, query, key, body |
//! | `wire.rs` and `wire/` | the JSON of requests and answers |
//! | `holds.rs`, `stock.rs`, `lists.rs`, `batch.rs`, `transfer.rs`, `health.rs` | parse, call one verb of the engine, answer |
//! | `openapi.rs`, `docs.rs` | what the routes say of themselves, as a document and as a page |
//! | `answer.rs` | what success looks like |
//! | `problem.rs` | what everything else looks like: the one table of problems |

pub mod access;
mod answer;
mod batch;
pub mod cli;
pub mod client;
mod docs;
mod extract;
mod health;
mod holds;
mod lists;
mod locks;
mod metrics;
mod openapi;
mod problem;
mod routes;
pub mod serve;
pub mod settings;
mod stock;
mod telemetry;
mod transfer;
mod wire;
