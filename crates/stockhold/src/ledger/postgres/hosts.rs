//! Several hosts, of which one is the primary: asks one after the other, and gives none more time than
//! it may take. The library bounds only how long a host takes to accept a connection; one that stands
//! still accepts it, and then says nothing for ever.

use std::{
    future::pending,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio_postgres::{Client, Config, Connection, Error, Socket, config::Host};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::clock::{SystemClock, within};

type Stream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

/// The hosts of a URL.
#[derive(Debug)]
pub(super) struct Hosts {
    /// How each alone is reached.
    each: Vec<Config>,
    /// How long one may take, unless it is the last to be asked.
    patience: Duration,
    /// The one that was reached last is asked first.
    first: AtomicUsize,
}

impl Hosts {
    pub(super) fn of(config: &Config, patience: Duration) -> Self {
        let each = (0..count(config)).map(|n| alone(config, n)).collect();
        Self { each, patience, first: AtomicUsize::new(0) }
    }

    pub(super) async fn connect(
        &self,
        tls: &MakeRustlsConnect,
    ) -> Result<(Client, Connection<Socket, Stream>), Error> {
        let (count, first) = (self.each.len(), self.first.load(Ordering::Relaxed));
        let mut refused = None;
        for (asked, n) in (1..).zip((first..count).chain(0..first)) {
            let Some(config) = self.each.get(n) else { continue };
            // Whoever waits for a connection does not wait for ever.
            let patience = if asked == count { Duration::MAX } else { self.patience };
            match within(&SystemClock, patience, config.connect(tls.clone())).await {
                Some(Ok(connected)) => {
                    self.first.store(n, Ordering::Relaxed);
                    return Ok(connected);
                }
                Some(Err(error)) => refused = Some(error),
                None => {}
            }
        }
        match refused {
            Some(error) => Err(error),
            None => pending().await,
        }
    }
}

/// How many there are.
pub(super) fn count(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

/// The name of the nth, with its port; and whether it is this machine.
pub(super) fn name(config: &Config, n: usize) -> (String, bool) {
    let address = config.get_hostaddrs().get(n);
    let ports = config.get_ports();
    let port = ports.get(n).or_else(|| ports.first()).unwrap_or(&5432);
    match (config.get_hosts().get(n), address) {
        (Some(Host::Unix(folder)), _) => (format!("{}:{port}", folder.display()), true),
        (Some(Host::Tcp(name)), None) => {
            let is_local = name.parse().map_or(name == "localhost", |ip: IpAddr| ip.is_loopback());
            (format!("{name}:{port}"), is_local)
        }
        (Some(Host::Tcp(name)), Some(ip)) => (format!("{name}:{port}"), ip.is_loopback()),
        (None, ip) => {
            let shown = ip.map(ToString::to_string).unwrap_or_default();
            (format!("{shown}:{port}"), ip.is_some_and(IpAddr::is_loopback))
        }
    }
}

/// The same with the nth host alone.
pub(super) fn alone(config: &Config, n: usize) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    place(&mut one, config, n);
    time_outs(&mut one, config);
    one.ssl_mode(config.get_ssl_mode());
    one.ssl_negotiation(config.get_ssl_negotiation());
    one.target_session_attrs(config.get_target_session_attrs());
    one.channel_binding(config.get_channel_binding());
    one.load_balance_hosts(config.get_load_balance_hosts());
    one
}

fn place(one: &mut Config, config: &Config, n: usize) {
    match config.get_hosts().get(n) {
        Some(Host::Tcp(name)) => {
            one.host(name);
        }
        Some(Host::Unix(folder)) => {
            one.host_path(folder);
        }
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(n) {
        one.hostaddr(*address);
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(n).or_else(|| ports.first()) {
        one.port(*port);
    }
}

fn time_outs(one: &mut Config, config: &Config) {
    if let Some(limit) = config.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    one.keepalives(config.get_keepalives());
    one.keepalives_idle(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a URL can say, each different from what it is when nobody says it.
    const SAID: &str = "/shop?application_name=till&options=-cwork_mem%3D8MB&connect_timeout=7\
        &keepalives=0&keepalives_idle=11&keepalives_interval=12&keepalives_retries=13\
        &tcp_user_timeout=14&sslmode=require&sslnegotiation=direct&channel_binding=require\
        &target_session_attrs=read-write&load_balance_hosts=random";

    #[test]
    fn one_host_alone_is_reached_as_it_is_among_others() {
        let config = |hosts: &str| format!("postgres://ann:secret@{hosts}{SAID}").parse::<Config>();
        let all = config("one:1,two:2").unwrap();
        for (n, host) in ["one:1", "two:2"].into_iter().enumerate() {
            assert_eq!(alone(&all, n), config(host).unwrap());
        }
    }

    #[test]
    fn a_host_of_this_machine_is_told_from_others() {
        let all =
            "host=/run,localhost,::1,db,db hostaddr=1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,127.0.0.1";
        let text = all.split_once(" hostaddr").map_or(all, |(hosts, _)| hosts);
        let config = |text: &str| text.parse::<Config>().unwrap();
        let local = |text: &str| (0..5).map(|n| name(&config(text), n).1).collect::<Vec<_>>();
        assert_eq!(local(text), [true, true, true, false, false]);
        assert_eq!(local(all), [true, false, false, false, true]);
        assert_eq!(name(&config("host=a,b port=7"), 1).0, "b:7");
    }

    #[test]
    fn hosts_may_have_one_port_for_all_and_addresses_of_their_own() {
        let all = "host=/run,two hostaddr=127.0.0.1,127.0.0.2 port=7 user=ann";
        let all: Config = all.parse().unwrap();
        let second: Config = "host=two hostaddr=127.0.0.2 port=7 user=ann".parse().unwrap();
        assert_eq!(alone(&all, 1), second);
    }
}
