//! Postgres servers that are not as they should be, and TLS to one that is.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stockhold::{
    Failure, FailureKind,
    ledger::postgres::{Danger, PostgresLedger, PostgresOptions, PostgresUrl, ServerFacts},
};
use stockhold_testkit::PostgresServer;

async fn facts(url: &str) -> ServerFacts {
    PostgresLedger::inspect(&url.parse::<PostgresUrl>().expect("it works")).await.expect("it works")
}

/// What is not well, by name, for an instance with eight connections.
async fn told(url: &str) -> Vec<(&'static str, Danger)> {
    let findings = facts(url).await.findings(8).into_iter();
    findings.filter(|f| f.danger > Danger::None).map(|f| (f.name, f.danger)).collect()
}

async fn start(url: &str) -> Result<(), Failure> {
    PostgresLedger::connect(url, PostgresOptions::default()).await.map(drop)
}

async fn start_anyway(url: &str) -> Result<(), Failure> {
    let options = PostgresOptions { allow_unsafe: true, ..PostgresOptions::default() };
    PostgresLedger::connect(url, options).await.map(drop)
}

#[tokio::test]
async fn a_server_as_debian_sets_it_up_is_well() {
    let server = PostgresServer::start();
    assert_eq!(told(&server.url()).await, []);
    assert_eq!(facts(&server.url()).await.schema, None);
    start(&server.url()).await.expect("it works");
    assert_eq!(told(&server.url()).await, []);
    assert_eq!(facts(&server.url()).await.schema, Some(2));
}

#[tokio::test]
async fn a_server_that_can_lose_what_it_answered_is_refused_unless_that_is_wanted() {
    for (name, value, finding) in
        [("fsync", "off", "fsync"), ("synchronous_commit", "off", "commit")]
    {
        let server = PostgresServer::set_up().with(name, value).start();
        assert_eq!(told(&server.url()).await, [(finding, Danger::Unsafe)]);
        let refused = start(&server.url()).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Invalid);
        assert!(refused.message.contains(&format!("set {name} = on")), "{refused}");
        start_anyway(&server.url()).await.expect("it works");
    }
}

#[tokio::test]
async fn a_role_with_settings_of_its_own_is_seen_through() {
    let server = PostgresServer::start();
    server.psql("ALTER ROLE postgres SET synchronous_commit = off");
    assert_eq!(told(&server.url()).await, [("commit", Danger::Unsafe)]);
    server.psql("ALTER ROLE postgres RESET synchronous_commit");
    server.psql("ALTER ROLE postgres SET default_transaction_read_only = on");
    assert_eq!(told(&server.url()).await, [("writing", Danger::Unsafe)]);
    assert_eq!(start(&server.url()).await.unwrap_err().kind, FailureKind::Invalid);
}

#[tokio::test]
async fn what_is_only_a_risk_is_told_and_started_with() {
    let server = PostgresServer::set_up()
        .with("full_page_writes", "off")
        .with("autovacuum", "off")
        .with("max_connections", "10")
        .start();
    let told = told(&server.url()).await;
    let risks = ["full pages", "autovacuum", "connections"];
    // Ten connections less three of superusers are fewer than eight.
    assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), risks);
    let options = PostgresOptions { connections: 4, ..PostgresOptions::default() };
    PostgresLedger::connect(&server.url(), options).await.expect("it works");
}

#[tokio::test]
async fn a_role_without_rights_is_told_which_it_lacks() {
    let server = PostgresServer::start();
    server.psql("CREATE ROLE shop LOGIN");
    let url = server.url().replace("postgres@", "shop@");
    assert_eq!(told(&url).await, [("role", Danger::Unsafe)]);
    start(&server.url()).await.expect("it works");
    let facts = facts(&url).await;
    assert!(facts.missing_rights.contains(&"INSERT on hold".to_owned()), "{facts:?}");
    let refused = start(&url).await.unwrap_err();
    assert!(refused.message.contains("GRANT SELECT, INSERT"), "{refused}");
    server.psql("GRANT ALL ON ALL TABLES IN SCHEMA public TO shop");
    assert_eq!(self::facts(&url).await.missing_rights, ["UPDATE on sequence stock_item_seq"]);
    server.psql("GRANT UPDATE ON ALL SEQUENCES IN SCHEMA public TO shop");
    assert_eq!(told(&url).await, []);
    start(&url).await.expect("it may not make tables, and need not");
}

#[tokio::test]
async fn slow_a_standby_is_told_from_its_primary() {
    use stockhold_testkit::postgres::Replication;
    let mut primary = PostgresServer::start();
    start(&primary.url()).await.expect("it works");
    let standby = PostgresServer::standby_of(&mut primary, Replication::Asynchronous);
    assert_eq!(told(&primary.url()).await, [("standby", Danger::Risk)]);
    let told = told(&standby.url()).await;
    assert!(told.contains(&("writing", Danger::Unsafe)), "{told:?}");
    assert!(start(&standby.url()).await.unwrap_err().message.contains("primary"));
}

/// An authority, and a certificate of it for this name, in PEM: with the key of the latter.
fn certificates(name: &str) -> (String, String, String) {
    let mut authority = CertificateParams::new(Vec::new()).expect("it works");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("it works"))
        .expect("it works");
    let key = KeyPair::generate().expect("it works");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("it works");
    let certificate = params.signed_by(&key, &authority).expect("it works");
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn tls_is_as_strict_as_sslmode_says() {
    let (authority, certificate, key) = certificates("db.example");
    let server = PostgresServer::set_up().with_tls(&certificate, &key).start();
    let folder = tempfile::tempdir().expect("it works");
    let (ours, others) = (folder.path().join("ours.pem"), folder.path().join("others.pem"));
    std::fs::write(&ours, authority).expect("it works");
    std::fs::write(&others, certificates("db.example").0).expect("it works");
    let (ours, others) = (ours.display(), others.display());
    let address = server.address().expect("it works");
    let url = |host: &str, parameters: &str| {
        let port = address.port();
        format!("postgres://postgres@{host}:{port}/postgres?hostaddr=127.0.0.1&{parameters}")
    };
    for (host, parameters, tls) in [
        ("db.example", "sslmode=disable".to_owned(), Some(false)),
        ("db.example", "sslmode=prefer".to_owned(), Some(true)),
        ("db.example", "sslmode=require".to_owned(), Some(true)),
        ("db.example", format!("sslmode=verify-full&sslrootcert={ours}"), Some(true)),
        ("db.example", format!("sslmode=verify-full&sslrootcert={others}"), None),
        ("other.example", format!("sslmode=verify-ca&sslrootcert={ours}"), Some(true)),
        ("other.example", format!("sslmode=require&sslrootcert={others}"), None),
        ("other.example", format!("sslmode=verify-full&sslrootcert={ours}"), None),
        ("db.example", "sslmode=verify-full".to_owned(), None),
    ] {
        let url: PostgresUrl = url(host, &parameters).parse().expect("it works");
        let looked = PostgresLedger::inspect(&url).await;
        assert_eq!(looked.ok().map(|facts| facts.tls), tls, "{host} {parameters}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_when_tls_is_required() {
    let server = PostgresServer::set_up().with_tcp().start();
    let url = server.url_at(server.address().expect("it works"));
    assert!(!facts(&url).await.tls);
    let strict: PostgresUrl = format!("{url}?sslmode=require").parse().expect("it works");
    let refused = PostgresLedger::inspect(&strict).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Unavailable, "{refused}");
}
