//! Connects to whatever the URL names.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use ::redis::{
    Arg, AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use super::{
    lines::{self, Lines},
    trouble::Trouble,
    url::{Host, Login, RedisUrl, Roots, Target},
};
use crate::{
    Failure,
    clock::{Clock, SystemClock, within},
    url::wrong,
};

/// How long one server may take until it can be asked.
const CONNECT: Duration = Duration::from_millis(250);
/// With Sentinels and Clusters several are asked, one after the other.
const CONNECT_TO_MANY: Duration = Duration::from_secs(1);
/// What was sent and not received by the other side for so long, will not be.
const UNHEARD: Duration = Duration::from_secs(2);
/// So many commands wait to be written.
const BUFFER: usize = 1_024;

/// The way to a Redis.
pub(super) enum Dial {
    Server(Box<Client>),
    Sentinels(Sentinels),
    Cluster(Box<Cluster>),
}

/// A Cluster, and how its members are reached.
pub(super) struct Cluster {
    client: ClusterClient,
    members: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
}

/// An open connection; clones share it.
#[derive(Clone)]
pub(super) enum Line {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Takes what a server says by itself, in the order in which it comes.
pub(super) trait OnPush: Fn(PushInfo) + Clone + Send + Sync + 'static {}

impl<F: Fn(PushInfo) + Clone + Send + Sync + 'static> OnPush for F {}

impl Dial {
    pub(super) fn new(url: &RedisUrl) -> Result<Self, Failure> {
        let certificates = url.tls.as_ref().map(certificates).transpose()?;
        Self::to(url, certificates).map_err(|e| wrong(format!("{url} cannot be used")).caused_by(e))
    }

    fn to(url: &RedisUrl, certificates: Option<TlsCertificates>) -> RedisResult<Self> {
        Ok(match &url.target {
            Target::Socket(path) => Self::Server(Box::new(Client::open(info(
                url,
                ConnectionAddr::Unix(path.clone()),
            )?)?)),
            Target::Server(host) => {
                Self::Server(Box::new(open(info(url, address(url, host))?, certificates)?))
            }
            Target::Sentinels { hosts, primary, login } => {
                let begins_with = |n: usize| {
                    let hosts = hosts.iter().cycle().skip(n).take(hosts.len());
                    sentinels(url, hosts, primary, login, certificates.clone()).map(Mutex::new)
                };
                let clients = (0..hosts.len()).map(begins_with).collect::<RedisResult<_>>()?;
                Self::Sentinels(Sentinels { clients, next: AtomicUsize::new(0) })
            }
            Target::Cluster(hosts) => {
                let members = hosts.iter().map(|host| info(url, address(url, host)));
                let members = members.collect::<RedisResult<Vec<_>>>()?;
                Self::Cluster(Box::new(Cluster::new(members, certificates)?))
            }
        })
    }

    /// Waits for a connection, but not for longer than one may take.
    pub(super) async fn in_time<T>(
        &self,
        connecting: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Trouble> {
        let limit = match self {
            Self::Server(_) => CONNECT,
            Self::Sentinels(_) | Self::Cluster(_) => CONNECT_TO_MANY,
        };
        match within(&SystemClock, limit, connecting).await {
            None => Err(Trouble::timeout(limit)),
            Some(connected) => connected.map_err(|e| Trouble::from(e).while_connecting()),
        }
    }

    /// A connection for commands.
    pub(super) async fn connect(&self) -> RedisResult<Line> {
        match self {
            Self::Cluster(cluster) => {
                cluster.client.get_async_connection().await.map(Line::Cluster)
            }
            other => other.connect_to_one(&config()).await.map(Line::One),
        }
    }

    /// A connection to each server that takes writes, for whoever has to hear all of them.
    pub(super) async fn connect_to_each(&self, on_push: impl OnPush) -> RedisResult<Lines> {
        let listening = config().set_push_sender(move |push| {
            on_push(push);
            Ok::<(), ()>(())
        });
        match self {
            Self::Cluster(cluster) => cluster.connect_to_each(&listening).await,
            other => other.connect_to_one(&listening).await.map(Lines::to_one),
        }
    }

    async fn connect_to_one(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let client = match self {
            Self::Server(client) => (**client).clone(),
            Self::Sentinels(sentinels) => sentinels.client().await?,
            Self::Cluster(_) => return Err(odd("a Cluster is more than one server")),
        };
        client.get_multiplexed_async_connection_with_config(config).await
    }
}

/// All the same ones, but each begins with another of them: the driver waits for the one that is named first, also if
/// that is the one that has gone.
pub(super) struct Sentinels {
    // Each asks them, and remembers its connections to them.
    clients: Vec<Mutex<SentinelClient>>,
    next: AtomicUsize,
}

impl Sentinels {
    /// The primary's. Where that takes long, or whoever asks does not wait for it to the end, the next one to ask begins
    /// with another of them.
    async fn client(&self) -> RedisResult<Client> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let client = self.clients.get(n % self.clients.len().max(1));
        let client = client.ok_or_else(|| odd("no Sentinel is named"))?;
        let begun = SystemClock.boot();
        let found = client.lock().await.async_get_client().await?;
        if SystemClock.boot().saturating_sub(begun) < CONNECT {
            self.next.store(n, Ordering::Relaxed);
        }
        Ok(found)
    }
}

impl Cluster {
    fn new(
        members: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<Self> {
        // Who waits for an answer knows for how long; it asks again by itself.
        let mut builder = ClusterClient::builder(members.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CONNECT)
            .response_timeout(UNHEARD)
            .tcp_settings(tcp())
            .retries(2)
            .min_retry_wait(10)
            .max_retry_wait(100);
        if let Some(certificates) = &certificates {
            builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
        }
        Ok(Self { client: builder.build()?, members, certificates })
    }

    async fn connect_to_each(&self, config: &AsyncConnectionConfig) -> RedisResult<Lines> {
        let mut connections = Vec::new();
        for host in self.primaries().await? {
            let client = open(self.member(host.clone())?, self.certificates.clone())?;
            let line = client.get_multiplexed_async_connection_with_config(config).await?;
            connections.push((host, line));
        }
        Ok(Lines::to_members(connections))
    }

    async fn primaries(&self) -> RedisResult<Vec<Host>> {
        let mut anyone = self.client.get_async_connection().await?;
        let slots = anyone.req_packed_command(&lines::slots()).await?.extract_error()?;
        let known = self.members.first().map(ConnectionInfo::addr);
        let reached_as = match known {
            Some(ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. }) => name,
            _ => "",
        };
        lines::primaries(&slots, reached_as)
    }

    /// How one of its members is reached: as those that are known.
    fn member(&self, (name, port): Host) -> RedisResult<ConnectionInfo> {
        let known = self.members.first().ok_or_else(|| odd("a Cluster without members"))?;
        let address = match known.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: name,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(name, port),
        };
        Ok(known.clone().set_addr(address))
    }
}

impl Line {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::One(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) if is_about_each(command) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                connection.route_command(command.clone(), all).await
            }
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        answer?.extract_error()
    }
}

/// Whether each member of a Cluster may answer something else: `CONFIG GET`. By itself the driver asks one of them. A
/// replica is asked when it was promoted: one that is gone would keep all others waiting.
fn is_about_each(command: &Cmd) -> bool {
    matches!(command.args_iter().next(), Some(Arg::Simple(b"CONFIG")))
}

/// Time-outs are ours: the caller knows how long it can wait.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(BUFFER)
}

fn open(info: ConnectionInfo, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn sentinels<'a>(
    url: &RedisUrl,
    hosts: impl Iterator<Item = &'a Host>,
    primary: &str,
    login: &Login,
    certificates: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let addresses = hosts.map(|host| address(url, host));
    let mut builder = SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(url.db)
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates);
    }
    let Login { user, password } = &url.login;
    if let Some(user) = user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = &login.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()
}

fn info(url: &RedisUrl, address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("stockhold", env!("CARGO_PKG_VERSION"))
        .set_db(url.db);
    if let Some(user) = &url.login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &url.login.password {
        settings = settings.set_password(password);
    }
    Ok(address.into_connection_info()?.set_tcp_settings(tcp()).set_redis_settings(settings))
}

fn address(url: &RedisUrl, (name, port): &Host) -> ConnectionAddr {
    match url.tls {
        None => ConnectionAddr::Tcp(name.clone(), *port),
        Some(_) => ConnectionAddr::TcpTls {
            host: name.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
    }
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(UNHEARD).with_interval(UNHEARD);
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(UNHEARD)
}

fn certificates(roots: &Roots) -> Result<TlsCertificates, Failure> {
    let root_cert = match roots {
        Roots::System => None,
        Roots::File(path) => Some(read(path)?),
    };
    Ok(TlsCertificates { client_tls: None, root_cert })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |e| wrong(format!("sslrootcert {} cannot be read", path.display())).caused_by(e);
    fs::read(path).map_err(unreadable)
}

pub(super) fn odd(message: &'static str) -> RedisError {
    RedisError::from((::redis::ErrorKind::Client, message))
}
