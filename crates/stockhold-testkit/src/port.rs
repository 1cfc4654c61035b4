//! Ports that stay one's own, also while the server behind them is dead.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process,
};

use crate::time::now;

/// Below the ports that Linux gives to outgoing connections, which could take one while its server
/// is down.
const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

/// A port of 127.0.0.1, claimed among all tests of this machine for as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// A free one.
    pub(crate) fn claim() -> Self {
        let begin = u64::from(process::id()).wrapping_mul(7_919).wrapping_add(now());
        let claimed = (0..COUNT).find_map(|n| {
            let offset = begin.wrapping_add(u64::from(n)) % u64::from(COUNT);
            Self::try_claim(FIRST.saturating_add(u16::try_from(offset).ok()?))
        });
        claimed.expect("one of 15,000 ports is free")
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    fn try_claim(number: u16) -> Option<Self> {
        let claim = File::create(claims().join(number.to_string())).ok()?;
        claim.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _claim: claim })
    }
}

fn claims() -> PathBuf {
    let folder = crate::folder::shared().join("ports");
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("making {}: {e}", folder.display()));
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_not_claimed_again_though_nobody_listens() {
        let port = Port::claim();
        assert!(TcpListener::bind(port.address()).is_ok(), "nobody listens");
        assert!(Port::try_claim(port.number()).is_none());
    }

    #[test]
    fn a_port_at_which_somebody_listens_is_not_claimed() {
        let port = Port::claim();
        let (address, _listener) = (port.address(), TcpListener::bind(port.address()).unwrap());
        drop(port);
        assert!(Port::try_claim(address.port()).is_none());
    }
}
