//! The `stockhold` program.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A hold is made by one thread and freed by another, which is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    stockhold_server::cli::main()
}
