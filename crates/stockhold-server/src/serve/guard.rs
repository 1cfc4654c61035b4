//! Who may ask at all, as long as there are no keys.

use std::net::{IpAddr, SocketAddr};

use axum::http::{
    HeaderMap, HeaderValue, Request,
    header::{ACCEPT, HOST, ORIGIN},
};

use crate::problem::{Kind, Problem};

/// Checks requests before they are looked at any further.
pub(super) enum Guard {
    /// On loopback everybody on the machine may ask; but a web page in somebody's browser is not
    /// meant by that. It gives itself away by the name that it knows us by (DNS rebinding), or by
    /// its own origin.
    Loopback { port: u16 },
    /// The operator has said that everybody who can reach the address may ask.
    Open,
}

impl Guard {
    pub(super) fn of(address: SocketAddr) -> Self {
        if address.ip().is_loopback() {
            Self::Loopback { port: address.port() }
        } else {
            Self::Open
        }
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        if let Self::Loopback { port } = *self {
            check_host(request, port)?;
        }
        check_accept(request)
    }
}

fn check_host<B>(request: &Request<B>, port: u16) -> Result<(), Problem> {
    let headers = request.headers();
    let target = request.uri().authority().is_none_or(|target| is_ours(target.as_str(), port));
    if !target || !only(headers, HOST).is_some_and(|host| is_ours(host, port)) {
        let detail =
            "the header Host must be a loopback name or address with the port of the server";
        return Err(Problem::new(Kind::HostNotAllowed, detail).or_field("Host"));
    }
    if !headers.contains_key(ORIGIN) || only(headers, ORIGIN).is_some_and(|o| is_our_page(o, port))
    {
        return Ok(());
    }
    let detail = "pages of another origin may not ask a server without keys";
    Err(Problem::new(Kind::HostNotAllowed, detail).or_field("Origin"))
}

/// The value of a header that stands there once.
fn only(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn is_our_page(origin: &str, port: u16) -> bool {
    origin.strip_prefix("http://").is_some_and(|host| is_ours(host, port))
}

fn is_ours(host: &str, port: u16) -> bool {
    const HTTP: u16 = 80;
    let (name, found) = match host.rsplit_once(':') {
        Some((name, digits)) if !digits.contains(']') => (name, digits.parse().ok()),
        _ => (host, Some(HTTP)),
    };
    found == Some(port) && is_loopback(name)
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the API answers is JSON.
fn check_accept<B>(request: &Request<B>) -> Result<(), Problem> {
    let Some(accept) = request.headers().get(ACCEPT) else { return Ok(()) };
    if !request.uri().path().starts_with("/v1/") || takes_json(accept) {
        return Ok(());
    }
    let detail = "the answer is application/json, which the header Accept leaves out";
    Err(Problem::new(Kind::NotAcceptable, detail).or_field("Accept"))
}

fn takes_json(accept: &HeaderValue) -> bool {
    const TAKEN: [&str; 3] = ["*/*", "application/*", "application/json"];
    let Ok(accept) = accept.to_str() else { return false };
    let ranges = accept.split(',').filter_map(|range| range.split(';').next());
    ranges.map(str::trim).any(|range| TAKEN.iter().any(|taken| range.eq_ignore_ascii_case(taken)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_are_ours() {
        for host in
            ["127.0.0.1:7300", "localhost:7300", "LocalHost:7300", "[::1]:7300", "127.1.2.3:7300"]
        {
            assert!(is_ours(host, 7300), "{host}");
        }
        assert!(is_ours("localhost", 80) && is_ours("[::1]", 80));
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "",
            ":7300",
            "localhost",
            "localhost:7301",
            "localhost:",
            "evil.example:7300",
            "127.0.0.1.evil.example:7300",
            "localhost:7300:7300",
            "10.0.0.1:7300",
            "[::1]",
            "user@localhost:7300",
            "localhost.:7300",
        ] {
            assert!(!is_ours(host, 7300), "{host}");
        }
    }

    #[test]
    fn accept_is_read_as_a_list() {
        let takes = |accept| takes_json(&HeaderValue::from_static(accept));
        assert!(takes("text/html, */*;q=0.8") && takes("Application/JSON; charset=utf-8"));
        assert!(!takes("text/html") && !takes("application/jsonp"));
    }
}
