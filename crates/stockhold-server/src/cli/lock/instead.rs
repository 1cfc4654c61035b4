//! `stockhold lock-instead --of PROCESS -- COMMAND`: what `lock run` starts, which becomes the command.
//!
//! First it asks the kernel to be killed when `lock run` is: a command must not go on when nobody renews its lock. The
//! kernel does that for the command alone, and not for what it has started.

use std::{ffi::OsString, io::ErrorKind, os::unix::process::CommandExt, process::Command};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::cli::{Doing, Exit, Fault};

/// Becomes a command that ends with the program that started it.
#[derive(Debug, Args)]
pub(crate) struct Instead {
    /// The process that has the lock.
    #[arg(long, value_name = "PROCESS")]
    of: i32,

    /// The command, and its arguments.
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Instead {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        set_parent_process_death_signal(Some(Signal::KILL)).doing("nobody would end it")?;
        // It may have been killed a moment before.
        if getppid() != Pid::from_raw(self.of) {
            return Err(Fault::new(Exit::NoLock, "whoever has the lock is gone"));
        }
        let [program, arguments @ ..] = &*self.command else {
            return Err(Fault::usage("a command is needed behind --"));
        };
        let error = Command::new(program).args(arguments).exec();
        let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
        let program = program.to_string_lossy();
        Err(Fault::new(Exit::Of(code), format!("{program} cannot be run: {error}")))
    }
}
