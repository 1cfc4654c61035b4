//! Connects to whatever the URL names.

use std::{fs, path::Path, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cmd,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use super::{
    trouble::Trouble,
    url::{Host, Login, RedisUrl, Roots, Target},
};
use crate::{
    Failure,
    clock::{SystemClock, within},
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
    Server(Client),
    // Asks them, and remembers its connections to them.
    Sentinels(Mutex<SentinelClient>),
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
            Target::Socket(path) => {
                Self::Server(Client::open(info(url, ConnectionAddr::Unix(path.clone()))?)?)
            }
            Target::Server(host) => {
                Self::Server(open(info(url, address(url, host))?, certificates)?)
            }
            Target::Sentinels { hosts, primary, login } => {
                Self::Sentinels(Mutex::new(sentinels(url, hosts, primary, login, certificates)?))
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
    pub(super) async fn connect_to_each(
        &self,
        on_push: impl OnPush,
    ) -> RedisResult<Vec<MultiplexedConnection>> {
        let listening = config().set_push_sender(move |push| {
            on_push(push);
            Ok::<(), ()>(())
        });
        match self {
            Self::Cluster(cluster) => cluster.connect_to_each(&listening).await,
            other => Ok(vec![other.connect_to_one(&listening).await?]),
        }
    }

    async fn connect_to_one(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let client = match self {
            Self::Server(client) => client.clone(),
            Self::Sentinels(client) => client.lock().await.async_get_client().await?,
            Self::Cluster(_) => return Err(odd("a Cluster is more than one server")),
        };
        client.get_multiplexed_async_connection_with_config(config).await
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

    async fn connect_to_each(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<Vec<MultiplexedConnection>> {
        let mut connections = Vec::new();
        for host in primaries(&mut self.client.get_async_connection().await?).await? {
            let client = open(self.member(host)?, self.certificates.clone())?;
            connections.push(client.get_multiplexed_async_connection_with_config(config).await?);
        }
        Ok(connections)
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
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        answer?.extract_error()
    }
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

fn sentinels(
    url: &RedisUrl,
    hosts: &[Host],
    primary: &str,
    login: &Login,
    certificates: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let addresses = hosts.iter().map(|host| address(url, host));
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

/// The servers of a Cluster that take writes.
async fn primaries(cluster: &mut ClusterConnection) -> RedisResult<Vec<Host>> {
    let strange = || odd("CLUSTER SLOTS was answered with something else");
    let slots = cluster.req_packed_command(cmd("CLUSTER").arg("SLOTS")).await?.extract_error()?;
    let Value::Array(ranges) = slots else { return Err(strange()) };
    let mut hosts = Vec::new();
    for range in &ranges {
        let host = primary(range).ok_or_else(strange)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Of a range of slots: the first, the last, and who has them, the primary first.
fn primary(range: &Value) -> Option<Host> {
    let Value::Array(parts) = range else { return None };
    let [_, _, Value::Array(primary), ..] = parts.as_slice() else { return None };
    let [name, Value::Int(port), ..] = primary.as_slice() else { return None };
    let name = ::redis::from_redis_value_ref::<String>(name).ok()?;
    Some((name, u16::try_from(*port).ok()?))
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

fn odd(message: &'static str) -> RedisError {
    RedisError::from((::redis::ErrorKind::Client, message))
}
