//! The `stockhold` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    stockhold_server::cli::main()
}
