//! Who may do what: every route, asked by everybody.

use std::collections::BTreeSet;

use stockhold_server::{
    access::{Key, Keys, Scope, Scopes, Token},
    serve::Service,
};

use crate::{
    contract::contract,
    support::{JSON, Reply, Server},
};

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    A(Scope),
    /// Any key; what it may do is looked at item by item.
    AnyKey,
    /// Nothing on loopback; from elsewhere the scope `read`.
    OpenAtHome,
}

use Need::{A, AnyKey, OpenAtHome};
use Scope::{Admin, Holds, Locks, Read, Stock};

/// Every route, as `GET /path`, and what it asks for.
const ROUTES: &[(&str, &str, Need)] = &[
    ("POST", "/v1/holds", A(Holds)),
    ("GET", "/v1/holds/{id}", A(Read)),
    ("POST", "/v1/holds/{id}/confirm", A(Holds)),
    ("POST", "/v1/holds/{id}/release", A(Holds)),
    ("POST", "/v1/holds/{id}/extend", A(Holds)),
    ("GET", "/v1/stock/{sku}", A(Read)),
    ("PUT", "/v1/stock/{sku}", A(Stock)),
    ("POST", "/v1/stock/{sku}/adjustments", A(Stock)),
    ("POST", "/v1/holds/{id}/ship", A(Stock)),
    ("POST", "/v1/holds/{id}/cancel", A(Stock)),
    ("POST", "/v1/holds/{id}/revoke", A(Admin)),
    ("GET", "/v1/holds", A(Read)),
    ("GET", "/v1/stock", A(Read)),
    ("POST", "/v1/batch", AnyKey),
    ("POST", "/v1/stock-imports", A(Stock)),
    ("GET", "/v1/stock-exports", A(Read)),
    ("GET", "/v1/movements", A(Read)),
    ("POST", "/v1/locks/{name}", A(Locks)),
    ("POST", "/v1/locks/{name}/renew", A(Locks)),
    ("POST", "/v1/locks/{name}/release", A(Locks)),
    ("GET", "/v1/locks/{name}", A(Read)),
    ("GET", "/v1/locks", A(Read)),
    ("GET", "/livez", OpenAtHome),
    ("GET", "/readyz", OpenAtHome),
    ("GET", "/metrics", OpenAtHome),
    ("GET", "/problems/{name}", OpenAtHome),
    ("GET", "/openapi.json", OpenAtHome),
    ("GET", "/docs", OpenAtHome),
];

/// Whom a request comes from.
#[derive(Clone, Copy, Debug)]
enum Caller {
    WithoutKey,
    WithWrongKey,
    With(Scope),
}

fn callers() -> impl Iterator<Item = Caller> {
    let strangers = [Caller::WithoutKey, Caller::WithWrongKey];
    strangers.into_iter().chain(Scope::ALL.map(Caller::With))
}

impl Caller {
    fn authorization(self) -> Option<String> {
        let token = match self {
            Self::WithoutKey => return None,
            Self::WithWrongKey => Token::from_bytes([0xff; 32]),
            Self::With(scope) => token(scope),
        };
        Some(format!("Bearer {}", token.as_str()))
    }

    async fn asks(self, server: &Server, method: &str, path: &str) -> Reply {
        let authorization = self.authorization();
        let authorization = authorization.iter().map(|value| ("Authorization", value.as_str()));
        let headers: Vec<_> = [JSON].into_iter().chain(authorization).collect();
        let body = if method == "GET" { "" } else { "{}" };
        server.ask(method, path, &headers, body.as_bytes()).await
    }
}

fn token(scope: Scope) -> Token {
    Token::from_bytes([scope as u8; 32])
}

/// A key for each scope.
fn keyed(service: Service) -> Service {
    service.keys(Keys::from_iter(Scope::ALL.map(|scope| Key {
        name: scope.to_string(),
        sha256: token(scope).hash(),
        scopes: Scopes::from_iter([scope]),
    })))
}

fn example(path: &str) -> String {
    path.replace("{id}", "0192d3c0-0000-7000-8000-000000000000")
        .replace("{sku}", "MUG")
        .replace("{name}", "not-found")
}

async fn check(
    caller: Caller,
    server: &Server,
    (method, path, need): (&str, &str, Need),
    home: bool,
) {
    let reply = caller.asks(server, method, &example(path)).await;
    let scope = match need {
        A(scope) => scope,
        OpenAtHome if home => return is_through(&reply),
        OpenAtHome => Read,
        AnyKey if matches!(caller, Caller::With(_)) => return is_through(&reply),
        AnyKey => Read,
    };
    match caller {
        Caller::WithoutKey | Caller::WithWrongKey => {
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            reply.expect_problem(401, "unauthorized");
        }
        Caller::With(has) if has == scope || has == Admin => is_through(&reply),
        Caller::With(_) => {
            let problem = reply.expect_problem(403, "forbidden");
            assert_eq!(problem["scope"], scope.as_str(), "{method} {path}");
        }
    }
}

fn is_through(reply: &Reply) {
    assert!(![401, 403].contains(&reply.status), "{}", reply.text());
}

#[tokio::test]
async fn with_keys_every_route_asks_everybody_for_its_scope() {
    for (address, home) in [("127.0.0.1:0", true), ("0.0.0.0:0", false)] {
        let server = Server::start_on(address, keyed).await;
        for route in ROUTES {
            for caller in callers() {
                check(caller, &server, *route, home).await;
            }
        }
    }
}

#[tokio::test]
async fn without_keys_everybody_may_do_everything() {
    let server = Server::start().await;
    for (method, path, _) in ROUTES {
        for caller in callers() {
            is_through(&caller.asks(&server, method, &example(path)).await);
        }
    }
}

/// The document is made of the routes that the server has.
#[tokio::test]
async fn the_table_above_has_every_route() {
    let operations = contract().await.operations();
    let routes =
        operations.iter().map(|(path, method, _)| format!("{} {path}", method.to_uppercase()));
    let table = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}"));
    assert_eq!(routes.collect::<BTreeSet<_>>(), table.collect());
}

#[tokio::test]
async fn a_head_needs_what_its_get_needs() {
    let server = Server::start_on("127.0.0.1:0", keyed).await;
    for (caller, status) in
        [(Caller::WithoutKey, 401), (Caller::With(Holds), 403), (Caller::With(Read), 404)]
    {
        let authorization = caller.authorization().unwrap_or_default();
        let headers = [("Authorization", authorization.as_str())];
        let request =
            crate::support::request(&server.address, "HEAD", "/v1/stock/MUG", &headers, b"");
        let mut connection = server.connect().await;
        connection.send(&request).await;
        connection.head().await.expect(status);
    }
}

/// So that nobody learns from a refusal what a body should be.
#[tokio::test]
async fn the_key_is_looked_at_before_the_rest() {
    let server = Server::start_on("127.0.0.1:0", keyed).await;
    let reply = server.ask("POST", "/v1/holds?x=1", &[("Content-Type", "text/plain")], b"{").await;
    reply.expect_problem(401, "unauthorized");
    server.get("/v1/nowhere").await.expect_problem(404, "no_route");
}
