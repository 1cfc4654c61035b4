//! Takes connections, and stops to.

use std::{io, net::SocketAddr};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{
    Upstream,
    gate::{Faults, Link},
    link::serve,
};

/// A listener that a runtime takes over later.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether somebody listens there: from the kernel's table, without connecting.
pub(super) fn is_listening(address: SocketAddr) -> bool {
    let port = format!("0100007F:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(&port) && fields.nth(1) == Some(LISTEN)
    })
}

const LISTEN: &str = "0A";

/// Until the proxy ends.
pub(super) async fn run(
    first: std::net::TcpListener,
    address: SocketAddr,
    upstream: Upstream,
    mut told: watch::Receiver<Faults>,
) {
    let mut listener = TcpListener::from_std(first).ok();
    let mut links = JoinSet::new();
    loop {
        let wanted = told.borrow_and_update().link;
        match wanted {
            Link::End => return,
            Link::Refuse => listener = None,
            Link::Accept if listener.is_none() => listener = TcpListener::bind(address).await.ok(),
            Link::Accept => {}
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            Some(accepted) = accept(listener.as_ref()) => {
                if let Ok((client, _)) = accepted {
                    links.spawn(serve(client, upstream.clone(), told.clone()));
                }
            }
            Some(_) = links.join_next() => {}
        }
    }
}

async fn accept(
    listener: Option<&TcpListener>,
) -> Option<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
    Some(listener?.accept().await)
}
