//! The command line, talking to a server.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::Output,
};

use serde_json::{Value, json};
use stockhold_testkit::Signal;

use crate::{
    certificate::Certificate,
    child::{Serving, run, stockhold, url},
    support::rest,
};

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.ends(0)
    }

    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// All of these are in what it printed.
    #[track_caller]
    pub(crate) fn prints(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.out.contains(part), "{part} in {self:?}");
        }
        self
    }

    /// All of these are in what it complained of.
    #[track_caller]
    pub(crate) fn complains(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "{part} in {self:?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Runs a command against a server.
pub(crate) fn ask(address: &str, args: &[&str]) -> Said {
    let url = format!("http://{address}");
    Said::of(stockhold(args).env("STOCKHOLD_URL", url).output().unwrap())
}

fn place(serving: &Serving, args: &[&str]) -> String {
    let args = [&["hold", "place", "--owner", "ann", "--json"], args].concat();
    let said = ask(&serving.address, &args).ok();
    said.json()["id"].as_str().unwrap().to_owned()
}

/// A server with ten mugs.
fn with_mugs() -> Serving {
    let serving = Serving::start("memory:");
    ask(&serving.address, &["stock", "set", "MUG", "--on-hand", "10"]).ok();
    serving
}

#[test]
fn a_hold_is_placed_looked_at_and_confirmed() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    shop(&["stock", "set", "TEE", "--location", "north", "--on-hand", "3"]).ok();
    let args = ["hold", "place", "--owner", "ann", "--line", "MUG=2", "--line", "TEE@north=1"];
    let said = shop(&[&args[..], &["--ttl", "5m", "--reference", "cart-1"]].concat()).ok();
    let said =
        said.prints(&["active", "ann", "cart-1", "MUG", "TEE@north", "2 held", "expires    in "]);
    let id = said.out.lines().next().unwrap().strip_prefix("hold").unwrap().trim().to_owned();
    shop(&["hold", "get", &id]).ok().prints(&["active"]);
    shop(&["hold", "confirm", &id, "--line", "MUG=1", "--reference", "order-1"]).ok().prints(&[
        "confirmed",
        "order-1",
        "1 confirmed; 1 released",
        "1 released",
    ]);
    let item = shop(&["stock", "get", "MUG", "--json"]).ok().json();
    assert_eq!((&item["available"], &item["allocated"]), (&json!(9), &json!(1)));
}

#[test]
fn a_hold_is_extended_released_and_its_units_come_back() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    let id = place(&serving, &["--line", "MUG=4"]);
    let longer = shop(&["hold", "extend", &id, "--ttl", "10m", "--json"]).ok().json();
    assert!(longer["expires_in_ms"].as_u64().unwrap() > 500_000, "{longer}");
    shop(&["hold", "release", &id, "--reason", "left"]).ok().prints(&["released", "4 released"]);
    assert_eq!(shop(&["stock", "get", "MUG", "--json"]).ok().json()["available"], 10);
}

#[test]
fn too_little_stock_ends_with_3_and_names_what_is_short() {
    let serving = with_mugs();
    let args = ["hold", "place", "--owner", "ben", "--line", "MUG=11"];
    let said = ask(&serving.address, &args).ends(3);
    let said = said.complains(&["insufficient_stock", "MUG@default: available 10, requested 11"]);
    assert_eq!(said.out, "");
    let said = ask(&serving.address, &[&args[..], &["--json"]].concat()).ends(3);
    assert_eq!(said.json()["code"], "insufficient_stock", "the problem, as it came");
}

#[tokio::test]
async fn what_has_expired_ends_with_4_and_can_be_taken_again() {
    let serving = with_mugs();
    let id = place(&serving, &["--line", "MUG=1", "--ttl", "100ms"]);
    rest(250).await;
    let shop = |args: &[&str]| ask(&serving.address, args);
    shop(&["hold", "confirm", &id]).ends(4).complains(&["hold_expired", "--rehold"]);
    shop(&["hold", "confirm", &id, "--rehold"]).ok().prints(&["confirmed", "taken again"]);

    let keyed = ["--line", "MUG=1", "--ttl", "100ms", "--idempotency-key", "k-1"];
    let id = place(&serving, &keyed);
    rest(250).await;
    let again = [&["hold", "place", "--owner", "ann"], &keyed[..]].concat();
    shop(&again).ends(4).complains(&["hold_ended", &format!("hold {id} is expired")]);
}

#[test]
fn other_refusals_end_with_1_and_say_what_helps() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    let unknown = "01927c1e-4a3b-7c5d-8e6f-0123456789ab";
    shop(&["hold", "get", unknown]).ends(1).complains(&["not_found", "Check the id", "request "]);
    shop(&["hold", "place", "--owner", "ann", "--line", "CUP=1"]).ends(1).complains(&[
        "unknown_sku",
        "CUP@default",
        "stockhold stock set",
    ]);
    shop(&["stock", "set", "MUG", "--on-hand", "11"]).ends(1).complains(&[
        "already_exists",
        "on hand 10",
        "stockhold stock count",
    ]);
}

#[test]
fn stock_is_received_adjusted_and_counted_from_the_command_line() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    let receive = ["stock", "receive", "MUG", "100", "--reference", "n-17"];
    shop(&receive).ok().prints(&["receive +100", "110"]);
    let keyed = [&receive[..], &["--idempotency-key", "n-17"]].concat();
    for _ in 0..2 {
        let moved = shop(&[&keyed[..], &["--json"]].concat()).ok().json();
        assert_eq!(moved["movement"]["on_hand_after"], 210);
    }
    shop(&["stock", "adjust", "MUG", "-3", "--reason", "broken"]).ok().prints(&["adjust -3"]);
    shop(&["stock", "adjust", "MUG", "-3", "--reason", "x", "--min-available", "205"])
        .ends(1)
        .complains(&["would_go_below", "floor 205", "left 204"]);
    shop(&["stock", "count", "MUG", "50", "--reason", "year", "--if-on-hand", "207"])
        .ok()
        .prints(&["count -157"]);
}

/// The texts under this name in all items of these pages.
fn of_all(pages: &str, name: &str) -> Vec<String> {
    let pages = pages.lines().map(|page| serde_json::from_str::<Value>(page).unwrap());
    let items = pages.flat_map(|page| page["items"].as_array().unwrap().clone());
    items.map(|item| item[name].to_string().trim_matches('"').to_owned()).collect()
}

#[test]
fn holds_are_listed_page_by_page_or_all_of_them() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    let mut placed: Vec<_> = (0..5).map(|_| place(&serving, &["--line", "MUG=1"])).collect();
    placed.reverse();
    let all = shop(&["hold", "list", "--all", "--limit", "2", "--json"]).ok().out;
    assert_eq!(of_all(&all, "id"), placed, "the newest first");
    assert!(all.lines().count() >= 3, "a page a line: {all}");
    let tables = shop(&["hold", "list", "--all", "--limit", "2"]).ok();
    let tables = tables.prints(&placed.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(tables.out.contains("1 MUG") && !tables.out.contains("--cursor"), "{tables:?}");

    let first = shop(&["hold", "list", "--limit", "2"]).ok().prints(&["--cursor "]);
    let cursor = first.out.split("--cursor ").nth(1).unwrap().split(',').next().unwrap();
    let second = shop(&["hold", "list", "--limit", "2", "--cursor", cursor, "--json"]).ok();
    assert_eq!(of_all(&second.out, "id"), placed[2..4]);

    shop(&["hold", "release", &placed[0]]).ok();
    let active = ["hold", "list", "--owner", "ann", "--state", "active", "--sku", "MUG", "--json"];
    assert_eq!(of_all(&shop(&active).ok().out, "id"), placed[1..]);
    let nobody = shop(&["hold", "list", "--owner", "nobody"]).ok();
    assert!(!nobody.out.contains("MUG") && nobody.out.contains("owner"), "{nobody:?}");
    shop(&["hold", "list", "--sku", "MUG"]).ends(1).complains(&["invalid_field", "state"]);
    shop(&["hold", "list", "--cursor", "x"]).ends(1).complains(&["field cursor"]);
}

#[test]
fn stock_and_movements_are_listed() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    for sku in ["CUP", "MUG-2", "a%b"] {
        shop(&["stock", "set", sku, "--on-hand", "3"]).ok();
    }
    let mugs = shop(&["stock", "list", "--prefix", "MUG", "--json"]).ok().out;
    assert_eq!(of_all(&mugs, "sku"), ["MUG", "MUG-2"]);
    let one_by_one = shop(&["stock", "list", "--all", "--limit", "1", "--json"]).ok().out;
    assert_eq!(of_all(&one_by_one, "sku"), ["CUP", "MUG", "MUG-2", "a%b"]);

    shop(&["stock", "receive", "MUG", "5", "--reference", "n-1"]).ok();
    shop(&["stock", "adjust", "MUG", "-2", "--reason", "broken"]).ok();
    let all = shop(&["movements", "--sku", "MUG", "--all", "--limit", "1", "--json"]).ok().out;
    assert_eq!(of_all(&all, "kind"), ["create", "receive", "adjust"]);
    let said = shop(&["movements", "--sku", "MUG"]).ok();
    let said = said.prints(&["+5", "n-1", "-2", "broken", "13"]);
    assert!(!said.out.contains("more"), "{said:?}");
    shop(&["movements", "--limit", "1"]).ok().prints(&["there may be more: --after"]);
    let last = of_all(&all, "id").pop().unwrap();
    let none = shop(&["movements", "--after", &last, "--json"]).ok().out;
    assert_eq!(of_all(&none, "id"), Vec::<String>::new());
}

#[test]
fn confirmed_units_are_shipped_or_cancelled_and_held_ones_revoked() {
    let serving = with_mugs();
    let shop = |args: &[&str]| ask(&serving.address, args);
    let id = place(&serving, &["--line", "MUG=5"]);
    shop(&["hold", "ship", &id]).ends(1).complains(&["not_confirmed"]);
    shop(&["hold", "confirm", &id]).ok();
    let ship = ["hold", "ship", &id, "--line", "MUG=2", "--idempotency-key", "parcel-1"];
    for _ in 0..2 {
        shop(&ship).ok().prints(&["5 confirmed, of these 2 shipped"]);
    }
    shop(&["hold", "cancel", &id]).ok().prints(&["2 shipped and 3 cancelled", "shipped"]);
    let id = place(&serving, &["--line", "MUG=1"]);
    shop(&["hold", "revoke", &id]).ends(2).complains(&["--reason"]);
    shop(&["hold", "revoke", &id, "--reason", "fraud"]).ok().prints(&["revoked"]);
    let item = shop(&["stock", "get", "MUG", "--json"]).ok().json();
    assert_eq!((&item["on_hand"], &item["available"]), (&json!(8), &json!(8)));
}

#[test]
fn the_document_of_the_api_is_that_of_the_server() {
    let printed = Said::of(run(&["openapi"])).ok().json();
    assert_eq!(printed["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    assert!(printed["paths"]["/v1/holds"]["post"].is_object());
}

#[test]
fn stock_is_exported_from_the_file_of_a_ledger_that_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = url(&folder.path().join("shop.db"));
    let serving = Serving::start(&ledger);
    for (sku, units) in [("TEE, red", "2"), ("MUG", "10")] {
        ask(&serving.address, &["stock", "set", sku, "--on-hand", units]).ok();
    }
    let export = ["stock", "export", "--ledger", &ledger];
    let rows = Said::of(run(&export)).ok().out;
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["sku"], &rows[0]["on_hand"]), (&json!("MUG"), &json!(10)));
    let file = folder.path().join("stock.csv");
    let to_file = [&export[..], &["-o", file.to_str().unwrap()]].concat();
    assert_eq!(Said::of(run(&to_file)).ok().out, "");
    let expected =
        "sku,location,on_hand,safety_stock\nMUG,default,10,0\n\"TEE, red\",default,2,0\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing else is left");
    Said::of(run(&["stock", "export", "--ledger", "memory:"])).ends(2);
    let shared = ["stock", "export", "--ledger", "postgres://shop@db/shop"];
    Said::of(run(&shared)).ends(2).complains(&["ask a server", "--url"]);
    let missing = url(&folder.path().join("missing.db"));
    Said::of(run(&["stock", "export", "--ledger", &missing, "-o", "/no/where"])).ends(1);
}

#[test]
fn a_doctor_names_what_is_well_and_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let ledger = url(&path);
    let checks = |said: &Said| -> Vec<(String, String)> {
        let checks = said.json()["checks"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        checks.iter().map(|check| (text(&check["name"]), text(&check["verdict"]))).collect()
    };
    let doctor = ["doctor", "--json", "--ledger", &ledger];
    let verdict = |said: &Said, name: &str| {
        checks(said).into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{said:?}")).1
    };
    let said = Said::of(run(&doctor)).ok();
    assert_eq!(verdict(&said, "ledger"), "warn", "it is not there yet");
    assert!(!path.exists(), "and the doctor makes none");
    let serving = Serving::start(&ledger);
    let said = ask(&serving.address, &doctor).ok();
    for name in ["version", "ledger", "clock", "server"] {
        assert_eq!(verdict(&said, name), "ok", "{said:?}");
    }
    let address = serving.address.clone();
    assert_eq!(serving.end(Signal::TERM).0, Some(0));
    let said = ask(&address, &doctor).ends(1);
    assert_eq!(verdict(&said, "server"), "bad");
    std::fs::write(&path, "not a ledger".repeat(1_000)).unwrap();
    let said = Said::of(run(&["doctor", "--ledger", &ledger])).ends(1);
    said.prints(&["not a stockhold ledger", "bad", "ledger: name another file"]);
}

#[test]
fn a_doctor_reads_the_settings_as_the_server_would() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = url(&folder.path().join("shop.db"));
    let config = folder.path().join("stockhold.toml");
    let doctor = ["doctor", "--config", config.to_str().unwrap()];
    std::fs::write(&config, format!("[ledger]\nurl = \"{ledger}\"\n")).unwrap();
    Said::of(run(&doctor)).ok().prints(&["settings", &ledger]);
    std::fs::write(&config, "[server]\nmax_connection = 7\n").unwrap();
    let said = Said::of(run(&[&doctor[..], &["--ledger", &ledger]].concat())).ends(1);
    said.prints(&["line 2", "max_connection", "bad"]);
}

#[test]
fn a_shell_can_be_taught_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let said = Said::of(run(&["completions", shell])).ok();
        said.prints(&["stockhold", "receive", "idempotency-key"]);
    }
    Said::of(run(&["completions", "dos"])).ends(2);
}

#[test]
fn a_server_that_speaks_tls_has_to_prove_who_it_is() {
    let (own, another) = (Certificate::new(), Certificate::new());
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let (certificate, key, another) = (text(own.chain()), text(own.key()), text(another.chain()));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tls.toml");
    let settings = format!("[server]\ntls_certificate = '{certificate}'\ntls_key = '{key}'\n");
    std::fs::write(&config, settings).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
    let serving = Serving::start_with("memory:", &args);
    let port = serving.address.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}");
    let by = |url: &str, more: &[&str]| {
        let args = [&["stock", "set", "MUG", "--on-hand", "1", "--url", url], more].concat();
        Said::of(run(&args))
    };
    by(&url, &["--ca", &certificate]).ok().prints(&["MUG"]);
    by(&url, &[]).ends(2).complains(&["--ca"]);
    by(&url, &["--ca", &key]).ends(1).complains(&["--ca", "there is no certificate in it"]);
    by(&format!("http://localhost:{port}"), &[]).ends(1);
    by(&url, &["--ca", &another]).ends(1).complains(&["certificate", "--ca"]);
}

#[test]
fn an_access_key_that_is_none_is_not_sent() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let file = empty.path().to_str().unwrap();
    let said = Said::of(run(&["stock", "get", "MUG", "--key-file", file])).ends(2);
    said.complains(&[file, "there is no key in it"]);
    Said::of(run(&["stock", "get", "MUG", "--key", "a\nb"])).ends(1).complains(&["the access key"]);
}

#[test]
fn a_list_that_cannot_be_read_is_not_taken_for_a_lost_connection() {
    let (serving, folder) = (with_mugs(), tempfile::tempdir().unwrap());
    let folder = folder.path().to_str().unwrap();
    let said = ask(&serving.address, &["stock", "import", folder]).ends(1);
    let said = said.complains(&[folder, "cannot be read", "directory"]);
    assert!(!said.err.contains("connection"), "{said:?}");
}

#[test]
fn without_a_server_it_says_how_to_start_one() {
    // Port 1 is never handed out to outgoing connections, as a port that was free a moment ago is.
    let nobody = "127.0.0.1:1";
    let said = ask(nobody, &["stock", "get", "MUG"]).ends(1);
    said.complains(&[&format!("http://{nobody}"), "stockhold serve --listen", "--url"]);
}

/// Reads one request, as text.
fn read_request(stream: &mut std::net::TcpStream) -> String {
    let (mut text, mut bytes) = (String::new(), [0; 4_096]);
    while !text.contains("\r\n\r\n") {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "a whole head: {text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

/// Takes one connection, reads the head of a request, answers with this and hangs up. Where, and
/// what was read.
pub(crate) fn answer_once(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        request
    });
    (address, server)
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    request.lines().find_map(line).map_or("", |(_, value)| value)
}

#[test]
fn after_a_lost_reply_it_asks_once_more_under_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let requests: Vec<_> = (0..2)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                read_request(&mut stream) // and hangs up
            })
            .collect();
        listener.set_nonblocking(true).unwrap();
        (requests, listener.accept().is_ok())
    });
    let place = ["hold", "place", "--owner", "ann", "--line", "MUG=1"];
    let said = ask(&address, &place).ends(1);
    let (requests, third) = server.join().unwrap();
    let [first, second] = [0, 1].map(|n| header(&requests[n], "idempotency-key"));
    assert!(!first.is_empty() && first == second, "{requests:?}");
    assert!(!third, "twice is enough");
    said.complains(&[&format!("--idempotency-key {first}")]);
}

#[test]
fn the_access_key_is_sent_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "sh_from_file\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        [0, 1].map(|_| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            header(&request, "authorization").to_owned()
        })
    });
    for by_file in [false, true] {
        let mut command = stockhold(&["stock", "get", "MUG", "--url", &url]);
        command.env("STOCKHOLD_KEY", "sh_from_env");
        if by_file {
            command.arg("--key-file").arg(&file);
        }
        let said = Said::of(command.output().unwrap()).ends(1);
        assert!(!format!("{said:?}").contains("sh_from"), "{said:?}");
    }
    assert_eq!(server.join().unwrap(), ["Bearer sh_from_env", "Bearer sh_from_file"]);
    let help = stockhold(&["hold", "get", "--help"]).env("STOCKHOLD_KEY", "sh_from_env").output();
    assert!(!String::from_utf8(help.unwrap().stdout).unwrap().contains("sh_from"));
}

#[test]
fn what_makes_no_sense_is_not_sent() {
    for args in [
        &["hold", "place", "--owner", "ann"][..],
        &["hold", "place", "--owner", "ann", "--line", "MUG"],
        &["hold", "place", "--owner", "ann", "--line", "MUG=1", "--ttl", "30"],
        &["hold", "get", "x"],
        &["hold", "list", "--state", "gone"],
        &["stock", "receive", "MUG", "0"],
        &["stock", "count", "MUG", "-1", "--reason", "x"],
        &["stock", "get", "MUG", "--url", "https://shop.example"],
        &["stock", "get", "MUG", "--url", "shop.example"],
        &["stock", "list", "--limit", "1001"],
        &["movements", "--after", "-1"],
        &["hold"],
    ] {
        let said = Said::of(run(args)).ends(2);
        assert!(!said.err.is_empty() && said.out.is_empty(), "{args:?}: {said:?}");
    }
}

#[test]
fn every_command_explains_itself() {
    for args in [
        &["--help"][..],
        &["hold", "--help"],
        &["hold", "place", "--help"],
        &["stock", "import", "--help"],
        &["movements", "--help"],
        &["doctor", "--help"],
    ] {
        Said::of(run(args)).ok().prints(&["Usage: stockhold"]);
    }
}
