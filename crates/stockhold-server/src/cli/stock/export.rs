//! `stockhold stock export`: everything, from a server or from a ledger's file.

use std::{
    fs::Permissions,
    io::{self, ErrorKind, Write},
    ops::ControlFlow,
    os::unix::fs::PermissionsExt,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use clap::Args;
use stockhold::{clock::SystemClock, ledger::sqlite::SqliteLedger};
use tempfile::NamedTempFile;

use super::{
    super::{
        Doing, Fault, LedgerUrl,
        ledger_file::in_memory,
        path::Path,
        refusal,
        remote::{Remote, one_thread, unanswered},
    },
    format_of, word,
};
use crate::{
    client::{Pieces, Stream},
    transfer::{write_header, write_row},
    wire::Format,
};

/// Writes all items in a form that can be imported again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// How rows are written [default: csv if the output file is called so, else ndjson]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// A file, which is there only when it is complete; else to stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Read this ledger's file (sqlite:PATH) instead of asking a server; a server that has it open
    /// is not disturbed.
    #[arg(long, value_name = "URL")]
    ledger: Option<LedgerUrl>,
}

const EXAMPLES: &str = "\
Examples:
  Everything, as CSV:
    stockhold stock export -o stock.csv
  Only what is in a backup, and how much of it there is:
    stockhold stock export --ledger sqlite:/backup/shop.db | wc -l";

impl Export {
    pub(super) fn run(&self, remote: &Remote) -> Result<(), Fault> {
        let mut output = Output::to(self.output.as_deref())?;
        let result = match &self.ledger {
            None => one_thread()?.block_on(self.ask_server(remote, &mut output)),
            Some(ledger) => self.read_ledger(ledger, &mut output),
        };
        result.and_then(|()| output.finish())
    }

    fn format(&self) -> Format {
        let by_name = || self.output.as_deref().map_or(Format::Ndjson, format_of);
        self.format.unwrap_or_else(by_name)
    }

    async fn ask_server(&self, remote: &Remote, output: &mut Output) -> Result<(), Fault> {
        let (url, target) = remote.target()?;
        let path = Path::of("/v1/stock-exports").query("format", Some(word(self.format())));
        let (nothing, clock) = (Pieces::default(), Arc::new(SystemClock));
        let broken = |error| unanswered(&url, &error, None);
        let export = Stream::open(&target, path.as_str(), None, nothing, remote.timeout(), clock);
        let mut export = export.await.map_err(broken)?;
        if !export.is_success() {
            let reply = export.reply().await.map_err(broken)?;
            return Err(refusal::fault(&reply, None));
        }
        while let Some(piece) = export.next().await.map_err(broken)? {
            if !output.write(&piece)? {
                break;
            }
        }
        Ok(())
    }

    fn read_ledger(&self, ledger: &LedgerUrl, output: &mut Output) -> Result<(), Fault> {
        let path = match ledger {
            LedgerUrl::Sqlite(path) => path,
            LedgerUrl::Postgres(_) => {
                return Err(Fault::usage(
                    "--ledger: only a ledger in a file is read directly; ask a server for one in \
                     Postgres: --url http://HOST:PORT",
                ));
            }
            LedgerUrl::Memory => return Err(in_memory()),
        };
        let format = self.format();
        let mut text = Vec::new();
        write_header(&mut text, format);
        let mut written = Ok(true);
        SqliteLedger::read_stock(path, |item| {
            write_row(&mut text, format, &item);
            if text.len() >= PIECE {
                written = output.write(&text);
                text.clear();
            }
            if matches!(written, Ok(true)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if written? {
            output.write(&text)?;
        }
        Ok(())
    }
}

/// So many bytes are written at once.
const PIECE: usize = 64 * 1024;

/// Where the rows go.
enum Output {
    Stdout(io::Stdout),
    /// Under another name until it is complete.
    File(NamedTempFile, PathBuf),
}

impl Output {
    fn to(file: Option<&FilePath>) -> Result<Self, Fault> {
        let Some(file) = file else { return Ok(Self::Stdout(io::stdout())) };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| FilePath::new("."));
        let mut builder = tempfile::Builder::new();
        // As any program would make it: the umask takes away what is not wanted.
        builder.prefix(".stockhold-export-").permissions(Permissions::from_mode(0o666));
        let made = builder.tempfile_in(folder).doing(&file.display().to_string())?;
        Ok(Self::File(made, file.to_owned()))
    }

    /// Whether more is wanted: who stopped listening, as `| head` does, has heard enough.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let result = match self {
            Self::Stdout(stdout) => stdout.write_all(bytes),
            Self::File(file, _) => file.write_all(bytes),
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Fault::error(format!("cannot write: {error}"))),
        }
    }

    fn finish(self) -> Result<(), Fault> {
        match self {
            Self::Stdout(mut stdout) => match stdout.flush() {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    Err(Fault::error(format!("cannot write: {error}")))
                }
                Ok(()) | Err(_) => Ok(()),
            },
            Self::File(file, name) => {
                file.as_file().sync_all().doing("cannot write")?;
                file.persist(&name).map(drop).doing(&name.display().to_string())
            }
        }
    }
}
