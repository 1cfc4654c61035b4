//! `stockhold serve`: the service.

use std::net::SocketAddr;

use stockhold::Engine;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::info;

use super::{Exit, Fault, LedgerUrl, open_ledger, runtime, say};
use crate::serve;

/// Serves HTTP until it is interrupted or terminated.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes any that is free.
    #[arg(
        long,
        env = "STOCKHOLD_LISTEN",
        default_value = "127.0.0.1:7300",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,

    /// Where stock and holds are kept: sqlite:PATH or memory:
    #[arg(
        long,
        env = "STOCKHOLD_LEDGER",
        default_value = "sqlite:stockhold.db",
        value_name = "URL"
    )]
    ledger: LedgerUrl,

    /// Serve everybody who can reach an address that is not a loopback address.
    #[arg(long)]
    insecure: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        if !self.listen.ip().is_loopback() && !self.insecure {
            return Err(Fault::usage(format!(
                "{} can be reached from other machines, and there are no keys yet: everybody there \
                 could take stock. Listen on 127.0.0.1, or say --insecure",
                self.listen
            )));
        }
        let runtime = runtime()?;
        runtime.block_on(self.serve())?;
        Ok(Exit::Ok)
    }

    async fn serve(self) -> Result<(), Fault> {
        let Self { listen, ledger, .. } = self;
        let signals = Signals::listen().map_err(|e| Fault::error(format!("no signals: {e}")))?;
        let listener = TcpListener::bind(listen).await.map_err(|e| cannot_listen(listen, &e))?;
        let address = listener.local_addr().map_err(|e| cannot_listen(listen, &e))?;
        let engine = Engine::builder(open_ledger(&ledger)?).start()?;
        say(&format!("listening on http://{address} (ledger {ledger})"))?;
        let served = serve::run(listener, engine.clone(), signals.first()).await;
        engine.close().await?;
        served.map_err(|e| cannot_listen(listen, &e))
    }
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Fault {
    Fault::error(format!("cannot listen on {address}: {error}"))
}

#[expect(clippy::exit, reason = "whoever signals twice does not want to wait")]
fn end_at_once() {
    std::process::exit(Exit::Error as i32);
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns at the first signal. A second one ends the process at once, as it would without us.
    async fn first(mut self) {
        self.next().await;
        info!("shutting down; a second signal ends the process at once");
        tokio::spawn(async move {
            self.next().await;
            end_at_once();
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
