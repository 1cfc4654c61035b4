//! Who may ask at all, as long as there are no keys.

use std::net::{IpAddr, SocketAddr};

use axum::http::{
    HeaderMap, HeaderValue, Request, Version,
    header::{ACCEPT, HOST, ORIGIN},
    uri::Authority,
};

use super::tls::Tls;
use crate::problem::{Kind, Problem};

/// Checks requests before they are looked at any further.
pub(super) enum Guard {
    /// On loopback everybody on the machine may ask; but a web page in somebody's browser is not
    /// meant by that. It gives itself away by the name that it knows us by (DNS rebinding), or by
    /// its own origin.
    Loopback { scheme: &'static str },
    /// The operator has said that everybody who can reach the address may ask.
    Open,
}

impl Guard {
    pub(super) fn of(address: SocketAddr, tls: Option<&Tls>) -> Self {
        let scheme = if tls.is_some() { "https://" } else { "http://" };
        if address.ip().is_loopback() { Self::Loopback { scheme } } else { Self::Open }
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        match self {
            Self::Loopback { scheme } => check_host(request, scheme)?,
            Self::Open => {}
        }
        check_accept(request)
    }
}

/// The port does not matter: a tunnel may have another one.
fn check_host<B>(request: &Request<B>, scheme: &str) -> Result<(), Problem> {
    let Some(host) = host_of(request) else {
        let detail = "the header Host must be a loopback name or address";
        return Err(Problem::new(Kind::HostNotAllowed, detail).or_field("Host"));
    };
    if is_same_origin(request.headers(), scheme, host) {
        return Ok(());
    }
    let detail = "pages of another origin may not ask a server without keys";
    Err(Problem::new(Kind::HostNotAllowed, detail).or_field("Origin"))
}

/// By which name of ours we are called. HTTP/2 has it in the target, and no need of the header.
fn host_of<B>(request: &Request<B>) -> Option<&str> {
    let target = request.uri().authority().map(Authority::as_str);
    let is_in_target =
        request.version() == Version::HTTP_2 && !request.headers().contains_key(HOST);
    let host = if is_in_target { target } else { only(request.headers(), HOST) };
    host.filter(|host| is_ours(host) && target.is_none_or(is_ours))
}

/// Not a browser, or a page that we served ourselves.
fn is_same_origin(headers: &HeaderMap, scheme: &str, host: &str) -> bool {
    let ours = |origin: &str| origin.strip_prefix(scheme).is_some_and(|origin| origin == host);
    !headers.contains_key(ORIGIN) || only(headers, ORIGIN).is_some_and(ours)
}

/// The value of a header that stands there once.
fn only(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn is_ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    is_loopback(name)
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the API answers is JSON.
fn check_accept<B>(request: &Request<B>) -> Result<(), Problem> {
    let mut accepts = request.headers().get_all(ACCEPT).iter().peekable();
    let path = request.uri().path();
    // Lists of stock have formats of their own.
    let is_json = path.starts_with("/v1/") && !path.starts_with("/v1/stock-");
    if !is_json || accepts.peek().is_none() || accepts.any(takes_json) {
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
            ["127.0.0.1:7300", "localhost", "LocalHost:7301", "[::1]:80", "[::1]", "127.1.2.3:7300"]
        {
            assert!(is_ours(host), "{host}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "",
            ":7300",
            "localhost:",
            "localhost:port",
            "localhost:99999",
            "evil.example:7300",
            "127.0.0.1.evil.example:7300",
            "localhost:7300:7300",
            "10.0.0.1:7300",
            "user@localhost:7300",
            "localhost.:7300",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_port_is_of_another_origin() {
        let asks = |origin| HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        let is_same_origin = |headers: &_, host| is_same_origin(headers, "http://", host);
        assert!(is_same_origin(&HeaderMap::new(), "localhost:7300"));
        assert!(is_same_origin(&asks("http://localhost:7300"), "localhost:7300"));
        for origin in ["http://localhost:3000", "https://localhost:7300", "null", ""] {
            assert!(!is_same_origin(&asks(origin), "localhost:7300"), "{origin}");
        }
    }

    #[test]
    fn accept_is_read_as_a_list() {
        let takes = |accept| takes_json(&HeaderValue::from_static(accept));
        assert!(takes("text/html, */*;q=0.8") && takes("Application/JSON; charset=utf-8"));
        assert!(!takes("text/html") && !takes("application/jsonp"));
    }

    #[test]
    fn accept_may_stand_there_more_than_once() {
        let asks = |accepts: &[&'static str]| {
            let mut request = Request::builder().uri("/v1/holds");
            for accept in accepts {
                request = request.header(ACCEPT, *accept);
            }
            check_accept(&request.body(()).unwrap()).is_ok()
        };
        assert!(asks(&[]) && asks(&["text/html", "application/json"]));
        assert!(!asks(&["text/html", "text/plain"]));
    }
}
