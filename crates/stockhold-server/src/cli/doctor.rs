//! `stockhold doctor`: is this machine fit for it, and what to do if not.

mod check;
mod postgres;
mod redis;
mod tls;

use std::path::{Path, PathBuf};

use serde::Serialize;
use stockhold::clock::{Clock, SystemClock};

use self::check::{Check, Verdict};
use super::{Doing, Exit, Fault, LedgerUrl, remote::Remote, say, serve::layers, table::table};
use crate::settings::Settings;

/// Looks at the settings, the ledger, the disk, the clock, the certificate and the limits of this
/// machine, and says what to do about what is not well.
///
/// It reads the ledger without disturbing a server that has it open, and writes a temporary file
/// beside it to see how long the disk takes to sync. Ends with 1 if anything is bad.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    /// The file with the settings of the server.
    #[arg(long, env = "STOCKHOLD_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,

    /// Which ledger, if not that of the settings: sqlite:PATH or
    /// postgres://...
    #[arg(long, value_name = "URL")]
    ledger: Option<LedgerUrl>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Before the first start:
    stockhold doctor --ledger sqlite:/var/lib/stockhold/shop.db
  And is the server ready?
    stockhold doctor --ledger sqlite:/var/lib/stockhold/shop.db --url http://127.0.0.1:7300";

impl Doctor {
    pub(super) fn run(self, remote: &Remote) -> Result<Exit, Fault> {
        let checks = self.checks(remote);
        let text = if self.json { as_json(&checks)? } else { as_text(&checks) };
        say(text.trim_end())?;
        Ok(if has_bad(&checks) { Exit::Error } else { Exit::Ok })
    }

    fn checks(&self, remote: &Remote) -> Vec<Check> {
        let before = (SystemClock.wall(), SystemClock.boot());
        let (settings, check) = check::settings(self.read_settings());
        let mut checks = vec![check::version(), check];
        let ledger = self.ledger.as_ref().unwrap_or(&settings.ledger.url);
        match ledger {
            LedgerUrl::Memory => checks.push(check::in_memory()),
            LedgerUrl::Sqlite(path) => {
                checks.push(check::ledger(path));
                checks.extend(check::seal(path));
                let folder = folder_of(path);
                checks.extend([check::room(&folder, path), check::sync(&folder)]);
            }
            LedgerUrl::Postgres(url) => {
                checks.extend(postgres::checks(url, settings.ledger.connections.size()));
            }
        }
        checks.extend(settings.redis.url.0.as_ref().map(|url| redis::check(url, ledger)));
        checks.push(check::clock(before, ledger));
        if let Some((certificate, key)) = settings.server.tls() {
            checks.extend([tls::certificate(certificate, key), tls::key_file(key)]);
        }
        checks.push(check::files(settings.server.max_connections.get().into()));
        if remote.is_named() {
            checks.push(check::server(remote));
        }
        checks
    }

    fn read_settings(&self) -> Result<Settings, String> {
        let layers = layers(self.config.as_deref()).map_err(|fault| fault.to_string())?;
        let layers = layers.flag("--ledger", "ledger.url", self.ledger.as_ref());
        layers.read().map_err(|wrong| wrong.to_string())
    }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new(".")).to_owned()
}

fn has_bad(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Bad)
}

fn as_json(checks: &[Check]) -> Result<String, Fault> {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        checks: &'a [Check],
    }
    let report = Report { ok: !has_bad(checks), checks };
    serde_json::to_string_pretty(&report).doing("writing JSON")
}

fn as_text(checks: &[Check]) -> String {
    let mut table = table(["check", "", "found"]);
    for Check { name, verdict, found, .. } in checks {
        table.add_row([*name, verdict.as_str(), found]);
    }
    let advice = checks.iter().filter_map(|check| {
        let next = check.next.as_ref()?;
        Some(format!("\n{}: {next}", check.name))
    });
    let advice: String = advice.collect();
    format!("{table}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bad_is_told_with_what_to_do() {
        let checks = [
            Check::ok("version", "0.1.0".to_owned()),
            Check::bad("disk", "full".to_owned(), "make room".to_owned()),
        ];
        let text = as_text(&checks);
        for part in ["version", "ok", "bad", "full", "disk: make room"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(has_bad(&checks) && !has_bad(&checks[..1]));
        let json: serde_json::Value = serde_json::from_str(&as_json(&checks).unwrap()).unwrap();
        assert_eq!((&json["ok"], &json["checks"][1]["verdict"]), (&false.into(), &"bad".into()));
    }
}
