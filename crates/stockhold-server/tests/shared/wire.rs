//! TLS between an instance and Postgres, and servers that insist on it or do not have it.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use stockhold_testkit::PostgresServer;
use tempfile::TempDir;

use crate::{
    checked::{doctor, refusal, start, verify},
    shopper::Shopper,
};

/// An authority of one test, and files with what it has made.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Its own certificate.
    fn file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// A server of this name, with these lines of `pg_hba.conf`.
    fn server(&self, name: &str, access: &str) -> PostgresServer {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let set_up = PostgresServer::set_up().with_tls(&certificate.pem(), &key.serialize_pem());
        set_up.with_access(access).start()
    }
}

const INSISTS: &str = "hostssl all all 127.0.0.1/32 trust";

fn url(address: SocketAddr, host: &str, parameters: &str) -> String {
    let port = address.port();
    format!("postgres://postgres@{host}:{port}/postgres?hostaddr=127.0.0.1&{parameters}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_over_tls_with_a_server_that_proves_who_it_is() {
    let ours = Authority::new("ours");
    let postgres = ours.server("localhost", INSISTS);
    let address = postgres.address().unwrap();
    let (port, root) = (address.port(), ours.file());
    let url = format!(
        "postgres://postgres@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={root}"
    );
    let instance = start(&url, |command| command);
    let mut keeper = Shopper::new(instance.address());
    keeper.put_stock("MUG", 5).await;
    let spoken = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE client_addr IS NOT NULL AND backend_type = 'client backend'";
    let spoken = postgres.psql(spoken);
    let (connections, all_by_tls) = spoken.split_once('|').unwrap();
    assert!(connections.parse::<u32>().unwrap() >= 1 && all_by_tls == "t", "{spoken}");
    assert_eq!(verify(&url, &[]).status.code(), Some(0));
    assert_eq!(doctor(&url).found("postgres tls"), "yes");
}

#[test]
fn a_server_that_does_not_prove_who_it_is_is_refused_with_the_reason() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let postgres = ours.server("db.example", INSISTS);
    let address = postgres.address().unwrap();
    let [root, other] = [ours.file(), others.file()];
    for (host, parameters, reason) in [
        ("db.example", format!("sslmode=verify-full&sslrootcert={other}"), "UnknownIssuer"),
        ("other.example", format!("sslmode=verify-full&sslrootcert={root}"), "not valid for name"),
        // Whatever the authorities of this machine are, ours is none of them.
        ("db.example", "sslmode=verify-full".to_owned(), ""),
        ("db.example", format!("sslmode=verify-ca&sslrootcert={other}"), "UnknownIssuer"),
        ("db.example", format!("sslmode=require&sslrootcert={other}"), "UnknownIssuer"),
        ("db.example", "sslmode=verify-full&sslrootcert=/none".to_owned(), "sslrootcert /none"),
    ] {
        let url = url(address, host, &parameters);
        let refused = refusal(&url);
        assert!(refused.contains(reason), "{host} {parameters}: {refused}");
        let looked = doctor(&url);
        assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("postgres", "bad")]));
        assert!(looked.found("postgres").contains(reason), "{looked:?}");
        assert!(looked.next("postgres").contains("sslmode"), "{looked:?}");
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[test]
fn a_name_does_not_matter_where_nobody_asks_for_it() {
    let ours = Authority::new("ours");
    let postgres = ours.server("db.example", INSISTS);
    let (address, root) = (postgres.address().unwrap(), ours.file());
    for parameters in [
        String::new(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={root}"),
    ] {
        let looked = doctor(&url(address, "other.example", &parameters));
        assert_eq!((looked.code, looked.found("postgres tls")), (Some(0), "yes"), "{parameters}");
    }
}

#[test]
fn a_server_that_insists_on_tls_is_not_reached_without() {
    let postgres = Authority::new("ours").server("db.example", INSISTS);
    let url = url(postgres.address().unwrap(), "db.example", "sslmode=disable");
    let refused = refusal(&url);
    assert!(refused.contains("no encryption"), "{refused}");
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("postgres", "bad")]));
    assert!(looked.next("postgres").contains("sslmode"), "{looked:?}");
}

#[test]
fn a_server_without_tls_is_not_spoken_to_where_tls_is_wanted() {
    let postgres = PostgresServer::set_up().with_tcp().start();
    let url = |mode| format!("{}?sslmode={mode}", postgres.url_at(postgres.address().unwrap()));
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = refusal(&url(mode));
        assert!(refused.contains("server does not support TLS"), "{mode}: {refused}");
    }
    assert_eq!(doctor(&url("prefer")).found("postgres tls"), "no");
}

/// A password is bound to the TLS connection that it is given on, so that nobody in between can use
/// the proof for a connection of its own.
#[test]
fn a_password_over_tls_is_bound_to_its_connection() {
    let ours = Authority::new("ours");
    let postgres = ours.server("db.example", "hostssl all all 127.0.0.1/32 scram-sha-256");
    postgres
        .psql("CREATE ROLE shop LOGIN PASSWORD 's3cr3t'; GRANT CREATE ON SCHEMA public TO shop");
    let bound = format!("sslmode=verify-full&sslrootcert={}&channel_binding=require", ours.file());
    let url = url(postgres.address().unwrap(), "db.example", &bound);
    let looked = doctor(&url.replace("postgres@", "shop:s3cr3t@"));
    assert_eq!((looked.code, looked.found("postgres tls")), (Some(0), "yes"), "{looked:?}");
}
