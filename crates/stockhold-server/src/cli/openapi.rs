//! `stockhold openapi`: what can be asked of a server, for programs.

use super::{Exit, Fault, say};
use crate::openapi;

/// Prints the OpenAPI 3.1 document of the HTTP API, as a server has it at /openapi.json.
#[derive(Debug, clap::Args)]
pub(super) struct OpenApi {}

impl OpenApi {
    pub(super) fn run(&self) -> Result<Exit, Fault> {
        say(openapi::document().trim_end())?;
        Ok(Exit::Ok)
    }
}
