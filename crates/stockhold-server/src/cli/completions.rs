//! `stockhold completions`: what a shell needs to know to finish a command.

use clap::Command;
use clap_complete::{Shell, generate};

use super::{Exit, Fault, say};

/// Prints a script with which a shell completes commands and options.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// For which shell.
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
    stockhold completions bash > /etc/bash_completion.d/stockhold
    stockhold completions zsh > \"${fpath[1]}/_stockhold\"
    stockhold completions fish > ~/.config/fish/completions/stockhold.fish";

impl Completions {
    pub(super) fn run(&self, mut program: Command) -> Result<Exit, Fault> {
        let mut script = Vec::new();
        generate(self.shell, &mut program, "stockhold", &mut script);
        say(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Ok)
    }
}
