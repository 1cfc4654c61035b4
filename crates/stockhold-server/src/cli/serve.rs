//! `stockhold serve`: the service.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use stockhold::{
    CacheOptions, Engine, clock::SystemClock, ledger::sqlite::SqliteOptions, redis::Redis,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::info;

use super::{Exit, Fault, Opening, open_ledger, runtime, say, start_log};
use crate::{
    serve::{Service, Tls},
    settings::{Layers, Settings},
};

/// Serves HTTP until it is interrupted or terminated.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// A file with settings, in TOML; docs/settings.md has all of them.
    #[arg(long, env = "STOCKHOLD_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,

    /// Where to listen; port 0 takes any that is free [default: 127.0.0.1:7300].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Where stock and holds are kept: sqlite:PATH, postgres://... or memory:
    /// [default: sqlite:stockhold.db].
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,

    /// A Redis that instances share, for copies and locks; never needed. All over one database name
    /// the same one, or none. docs/settings.md has its URLs.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// Serve everybody who can reach an address that is not a loopback address, without keys.
    #[arg(long)]
    insecure: bool,

    /// How a line of the log is written: text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Print the settings that are in force, as TOML, and end.
    #[arg(long)]
    print_settings: bool,
}

impl Serve {
    pub(super) fn run(self, log: Option<String>) -> Result<Exit, Fault> {
        let print = self.print_settings;
        let settings = self.settings(log)?;
        if print {
            let text = settings.to_toml().map_err(|e| Fault::error(e.to_string()))?;
            say(text.trim_end())?;
            return Ok(Exit::Ok);
        }
        let _log = start_log(&settings.log.filter, settings.log.format)?;
        refuse_to_be_open(&settings)?;
        runtime()?.block_on(serve(&settings))?;
        Ok(Exit::Ok)
    }

    fn settings(self, log: Option<String>) -> Result<Settings, Fault> {
        let layers = layers(self.config.as_deref())?
            .flag("--listen", "server.listen", self.listen)
            .flag("--ledger", "ledger.url", self.ledger)
            .flag("--redis", "redis.url", self.redis)
            .flag("--insecure", "server.insecure", self.insecure.then_some(true))
            .flag("--log", "log.filter", log)
            .flag("--log-format", "log.format", self.log_format);
        layers.read().map_err(|e| Fault::usage(e.to_string()))
    }
}

/// What the settings file, if there is one, and the environment say.
pub(crate) fn layers(config: Option<&Path>) -> Result<Layers, Fault> {
    // A variable that is no text is none of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let layers = Layers::default().environment(variables);
    let Some(path) = config else { return Ok(layers) };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Fault::usage(format!("the settings in {}: {e}", path.display())))?;
    Ok(layers.file(path, text))
}

fn refuse_to_be_open(settings: &Settings) -> Result<(), Fault> {
    let listen = settings.server.listen;
    if listen.ip().is_loopback() || !settings.keys.is_empty() || settings.server.insecure {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "{listen} can be reached from other machines, and there are no keys: everybody there could \
         take stock. Make a key with `stockhold key new`, listen on 127.0.0.1, or say --insecure"
    )))
}

async fn serve(settings: &Settings) -> Result<(), Fault> {
    let listen = settings.server.listen;
    let signals = Signals::listen().map_err(|e| Fault::error(format!("no signals: {e}")))?;
    let listener = TcpListener::bind(listen).await.map_err(|e| cannot_listen(listen, &e))?;
    let address = listener.local_addr().map_err(|e| cannot_listen(listen, &e))?;
    let engine = engine(settings).await?;
    let mut service =
        Service::new(engine.clone()).keys(settings.keys()).settings(settings.server.clone());
    let mut scheme = "http";
    if let Some((certificate, key)) = settings.server.tls() {
        let tls = Tls::read(certificate, key).map_err(|e| Fault::error(e.to_string()))?;
        (service, scheme) = (service.tls(tls), "https");
    }
    say(&format!("listening on {scheme}://{address} (ledger {})", settings.ledger.url))?;
    let served = service.run(listener, signals.first()).await;
    engine.close().await?;
    served.map_err(|e| cannot_listen(listen, &e))
}

async fn engine(settings: &Settings) -> Result<Engine, Fault> {
    let sqlite = SqliteOptions {
        limits: settings.limits.to_core(),
        clock: Arc::new(SystemClock),
        readers: settings.ledger.readers.size(),
        cache_mib: settings.ledger.cache_mib.get(),
    };
    let opening = Opening {
        sqlite,
        connections: Some(settings.ledger.connections.size()),
        allow_unsafe: settings.ledger.allow_unsafe,
    };
    let ledger = open_ledger(&settings.ledger.url, opening).await?;
    let redis = settings.redis.url.0.as_ref().map(Redis::new).transpose()?;
    let cache = CacheOptions {
        bytes: u64::from(settings.cache.size_mib.get()) << 20,
        redis,
        refuse_within: Some(settings.cache.refuse_within.get()).filter(|within| !within.is_zero()),
        limits: settings.limits.to_core(),
        namespace: settings.redis.namespace.clone(),
    };
    Ok(Engine::builder(ledger).settings(settings.to_engine()).cache(cache).start()?)
}

fn cannot_listen(address: std::net::SocketAddr, error: &std::io::Error) -> Fault {
    let next = match error.kind() {
        ErrorKind::AddrInUse => "is a server running there already? another address: --listen",
        ErrorKind::AddrNotAvailable => "an address of this machine is needed: --listen",
        ErrorKind::PermissionDenied => "ports below 1024 are for root: take another by --listen",
        _ => "another address is given by --listen",
    };
    Fault::error(format!("cannot listen on {address}: {error}\n  {next}"))
}

#[expect(clippy::exit, reason = "whoever signals twice does not want to wait")]
fn end_at_once() {
    std::process::exit(Exit::Error.code().into());
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
