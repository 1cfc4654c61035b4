//! The password of the database lets in, and is told to nobody.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use stockhold_testkit::{PostgresServer, ServerProcess};
use tempfile::TempDir;

use crate::{shop::stockhold, shopper::Shopper};

const PASSWORD: &str = "pl4nted-s3cr3t";
const WRONG: &str = "wr0ng-s3cr3t";

/// A server that wants a password of whoever does not come by its socket.
struct Guarded {
    postgres: PostgresServer,
    folder: TempDir,
}

/// How the password is given.
#[derive(Clone, Copy, Debug)]
enum Way {
    Url,
    Parameter,
    Variable,
    File,
    None,
}

impl Guarded {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("pg_hba.conf");
        fs::write(&rules, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            .unwrap();
        // The server has a user of its own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&rules, fs::Permissions::from_mode(0o644)).unwrap();
        let set_up = PostgresServer::set_up().with("hba_file", rules.display());
        let postgres = set_up.with_tcp().start();
        postgres.psql(&format!("CREATE ROLE shop LOGIN PASSWORD '{PASSWORD}'"));
        postgres.psql("CREATE DATABASE shop OWNER shop");
        Self { postgres, folder }
    }

    /// The program with these arguments, which reaches the ledger in this way.
    fn command(&self, args: &[&str], way: Way, password: &str) -> Command {
        let address = self.postgres.address().unwrap();
        let plain = format!("postgres://shop@{address}/shop");
        let (url, variable) = match way {
            Way::Url => (format!("postgres://shop:{password}@{address}/shop"), None),
            Way::Parameter => (format!("{plain}?password={password}"), None),
            Way::Variable => (plain, Some(password)),
            Way::File => {
                let file = self.folder.path().join("password");
                fs::write(&file, format!("{password}\n")).unwrap();
                (format!("{plain}?passwordfile={}", file.display()), None)
            }
            Way::None => (plain, None),
        };
        let settings = self.folder.path().join("stockhold.toml");
        fs::write(&settings, format!("[ledger]\nurl = \"{url}\"\n")).unwrap();
        let mut command = stockhold(args);
        command.env("STOCKHOLD_CONFIG", settings).env_remove("PGPASSWORD");
        // Of the commands without settings.
        if matches!(args.first(), Some(&"verify" | &"doctor")) {
            command.args(["--ledger", &url]);
        }
        if let Some(password) = variable {
            command.env("PGPASSWORD", password);
        }
        command
    }

    fn run(&self, args: &[&str], way: Way, password: &str) -> Output {
        self.command(args, way, password).output().unwrap()
    }

    fn serve(&self, way: Way) -> ServerProcess {
        let args = ["serve", "--listen", "127.0.0.1:0", "--log", "trace"];
        ServerProcess::start(&self.command(&args, way, PASSWORD))
    }
}

fn words(output: &Output) -> String {
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    said + &complained
}

#[track_caller]
fn expect_silence(place: &str, text: &str) {
    for secret in [PASSWORD, WRONG] {
        assert!(!text.contains(secret), "{place} tells {secret}: {text}");
    }
}

/// Also when Postgres is away, which is when most is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_lets_in_by_each_way_and_is_told_by_no_answer_nor_log() {
    let mut guarded = Guarded::start();
    for way in [Way::Url, Way::Parameter, Way::Variable, Way::File] {
        let mut server = guarded.serve(way);
        let mut ann = Shopper::new(server.address());
        ann.put_stock("MUG", 5).await;
        for path in ["/readyz", "/livez", "/v1/stock", "/v1/holds", "/metrics", "/openapi.json"] {
            expect_silence(path, &ann.text(path).await);
        }
        for file in ["cmdline", "comm"] {
            let text = fs::read(format!("/proc/{}/{file}", server.pid())).unwrap();
            expect_silence(file, &String::from_utf8_lossy(&text));
        }
        let sessions =
            "SELECT string_agg(s::text, '') FROM pg_stat_activity s WHERE usename = 'shop'";
        let sessions = guarded.postgres.psql(sessions);
        assert!(sessions.contains("shop"), "{sessions}");
        expect_silence("pg_stat_activity", &sessions);
        guarded.postgres.stop();
        expect_silence("/readyz", &ann.get("/readyz").await.expect_status(503).to_string());
        let told = ann.post("/v1/batch", &serde_json::json!({"operations": []}), None).await;
        expect_silence("/v1/batch", &format!("{told:?}"));
        guarded.postgres.restart();
        expect_silence("the line", server.line());
        let _ = server.stop();
        assert!(server.log().len() > 1_000, "a log that says nothing hides everything");
        expect_silence("the log", &server.log());
    }
}

#[test]
fn a_password_is_in_no_report_and_no_setting_that_is_printed() {
    let guarded = Guarded::start();
    for way in [Way::Url, Way::Parameter, Way::Variable, Way::File] {
        let mut server = guarded.serve(way);
        for args in [
            &["doctor"][..],
            &["doctor", "--json"],
            &["verify"],
            &["verify", "--json"],
            &["serve", "--print-settings"],
        ] {
            let output = guarded.run(args, way, PASSWORD);
            assert_eq!(output.status.code(), Some(0), "{args:?} {way:?}: {}", words(&output));
            expect_silence(&format!("{args:?}"), &words(&output));
        }
        let _ = server.stop();
    }
}

#[test]
fn a_wrong_password_is_refused_with_what_to_do() {
    let guarded = Guarded::start();
    for way in [Way::Url, Way::Parameter, Way::Variable, Way::File] {
        for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["verify"], &["doctor"]] {
            let output = guarded.run(args, way, WRONG);
            let words = words(&output);
            assert_eq!(output.status.code(), Some(1), "{args:?} {way:?}: {words}");
            let flat = words.split(['\n', ' ', '│', '|', '┆']).filter(|word| !word.is_empty());
            let flat = flat.collect::<Vec<_>>().join(" ");
            assert!(flat.contains("refuses this user or password"), "{args:?} {way:?}: {words}");
            expect_silence(&format!("{args:?}"), &words);
        }
    }
}

#[test]
fn who_gives_no_password_is_told_how_to() {
    let guarded = Guarded::start();
    let output = guarded.run(&["serve", "--listen", "127.0.0.1:0"], Way::None, WRONG);
    let words = words(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("wants a password") && words.contains("PGPASSWORD"), "{words}");
}

/// By a flag, a variable and a file.
#[test]
fn a_url_that_is_wrong_is_refused_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stockhold.toml");
    for wrong in ["host:port/shop", "a@host/shop", "host/shop?sslmode=maybe", "host/shop?x=1"] {
        let url = format!("postgres://shop:{PASSWORD}@{wrong}");
        fs::write(&file, format!("[ledger]\nurl = \"{url}\"\n")).unwrap();
        let mut by_flag = stockhold(&["serve", "--ledger", &url]);
        let mut by_variable = stockhold(&["serve"]);
        by_variable.env("STOCKHOLD_LEDGER", &url);
        let mut by_file = stockhold(&["serve"]);
        by_file.env("STOCKHOLD_CONFIG", &file);
        let mut verify = stockhold(&["verify", "--ledger", &url]);
        for command in [&mut by_flag, &mut by_variable, &mut by_file, &mut verify] {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{wrong}: {}", words(&output));
            expect_silence(wrong, &words(&output));
        }
    }
}
