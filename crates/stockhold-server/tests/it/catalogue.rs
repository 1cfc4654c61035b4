//! Imports and exports from the command line, against a server that does as little as possible:
//! what is tested is what the program makes of its answers.

use std::{
    io::Write,
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    routing::post,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    child::{Serving, stockhold, url},
    cli::{Said, answer_once, ask},
};

/// Query, content type and body of each import.
type Seen = Arc<Mutex<Vec<(String, String, String)>>>;

/// Takes every line but those with `bad` in it.
async fn import(State(seen): State<Seen>, request: Request) -> String {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let kind = request.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let bad = text.lines().enumerate().filter(|(_, line)| line.contains("bad"));
    let bad: Vec<Value> = bad
        .map(|(n, _)| {
            let error = json!({"code": "invalid_field", "detail": "sku is bad", "field": "sku"});
            json!({"line": n + 1, "error": error})
        })
        .collect();
    let lines = text.lines().count();
    let sum = json!({"created": lines - bad.len(), "counted": 0, "unchanged": 0, "bad": bad.len(),
        "lines": lines});
    seen.lock().unwrap().push((query, kind, text));
    bad.iter().chain([&sum]).map(|line| format!("{line}\n")).collect()
}

/// Where it listens, and what it has seen.
async fn serve() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap().to_string(), Seen::default());
    let router = Router::new().route("/v1/stock-imports", post(import)).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, seen)
}

/// Runs a command while the server of the test goes on.
async fn run(address: &str, args: &[&str]) -> Said {
    let (address, args) = (address.to_owned(), args.iter().map(|arg| (*arg).to_owned()));
    let args: Vec<_> = args.collect();
    let run = move || ask(&address, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn a_file_is_imported_and_its_bad_rows_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.CSV");
    let rows: String = (0..20_000).map(|n| format!("SKU-{n},default,10,0\n")).collect();
    let text = format!("sku,location,on_hand,safety_stock\n{rows}bad,,,\nbad,,x,\n");
    std::fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let (address, seen) = serve().await;
    let said = run(&address, &["stock", "import", file, "--mode", "count"]).await.ends(1);
    let said = said.prints(&["20003 rows: 20001 created", "2 bad"]);
    assert_eq!(
        said.err,
        "line 20002: sku is bad (invalid_field)\nline 20003: sku is bad (invalid_field)\n"
    );
    let said = run(&address, &["stock", "import", file, "--json"]).await.ends(1);
    let lines: Vec<Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["line"], &lines[2]["bad"]), (3, &json!(20_002), &json!(2)));
    let seen = seen.lock().unwrap();
    let kind = "text/csv".to_owned();
    assert_eq!(seen[0], ("mode=count".to_owned(), kind.clone(), text.clone()));
    assert_eq!(seen[1], ("mode=create".to_owned(), kind, text));
}

#[tokio::test]
async fn rows_may_come_out_of_another_program() {
    let (address, seen) = serve().await;
    let url = format!("http://{address}");
    let mut command = stockhold(&["stock", "import", "-", "--url", &url]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let rows = "{\"sku\":\"MUG\",\"on_hand\":1}\n";
    let run = move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
        Said::of(child.wait_with_output().unwrap())
    };
    let said = tokio::task::spawn_blocking(run).await.unwrap().ok();
    said.prints(&["1 rows: 1 created"]);
    let seen = seen.lock().unwrap();
    let kind = "application/x-ndjson".to_owned();
    assert_eq!(seen[0], ("mode=create".to_owned(), kind, rows.to_owned()));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_before_anything_is_sent() {
    let (address, seen) = serve().await;
    let said = run(&address, &["stock", "import", "/no/such/file.csv"]).await.ends(1);
    said.complains(&["/no/such/file.csv"]);
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn an_import_whose_answer_breaks_off_is_not_taken_for_done() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.ndjson");
    std::fs::write(&file, "{\"sku\":\"MUG\",\"on_hand\":1}\n").unwrap();
    for answer in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (address, _server) = answer_once(answer);
        let said = ask(&address, &["stock", "import", file.to_str().unwrap()]).ends(1);
        said.complains(&["again"]);
    }
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nsku,location\n";
const HALF: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nd\r\nsku,location\n\r\n";
const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n\
    {\"code\":\"forbidden\",\"title\":\"No\",\"detail\":\"the key lacks read\",\"request_id\":\"r\"}";

#[test]
fn an_export_that_breaks_off_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stock.csv");
    let export = ["stock", "export", "-o", file.to_str().unwrap()];
    for (answer, complaint) in [(HALF, "connection"), (REFUSED, "the key lacks read")] {
        let (address, server) = answer_once(answer);
        ask(&address, &export).ends(1).complains(&[complaint]);
        assert!(server.join().unwrap().starts_with("GET /v1/stock-exports?format=csv "));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    let (address, _server) = answer_once(WHOLE);
    ask(&address, &export).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "sku,location\n");
}

#[test]
fn what_was_exported_can_be_imported_elsewhere_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (list, first, second) = (path("list.csv"), path("first.csv"), path("second.ndjson"));
    let rows: String = (0..1_200).map(|n| format!("\"SKU, {n}\",north,{n},1\n")).collect();
    std::fs::write(&list, format!("sku,location,on_hand,safety_stock\n{rows}X,,x,\n")).unwrap();
    let (here, there) = (Serving::start("memory:"), Serving::start("memory:"));
    let import = |server: &Serving, file: &str| ask(&server.address, &["stock", "import", file]);
    let export =
        |server: &Serving, file: &str| ask(&server.address, &["stock", "export", "-o", file]).ok();
    let said = import(&here, &list).ends(1).prints(&["1201 rows: 1200 created", "1 bad"]);
    assert!(said.err.starts_with("line 1202: on_hand "), "{said:?}");
    export(&here, &first);
    import(&there, &first).ok().prints(&["1200 created"]);
    export(&there, &second);
    import(&here, &second).ok().prints(&["0 created", "1200 unchanged"]);
    let item = ask(&there.address, &["stock", "get", "SKU, 7", "--location", "north", "--json"]);
    assert_eq!(item.ok().json()["available"], 6);
}

#[test]
fn a_server_and_its_file_export_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = url(&folder.path().join("shop.db"));
    let serving = Serving::start(&ledger);
    for sku in ["MUG", "TEE, \"red\"", "Größe 42"] {
        ask(&serving.address, &["stock", "set", sku, "--on-hand", "3"]).ok();
    }
    for format in ["csv", "ndjson"] {
        let export = ["stock", "export", "--format", format];
        let asked = ask(&serving.address, &export).ok().out;
        let read = ask(&serving.address, &[&export[..], &["--ledger", &ledger]].concat()).ok().out;
        assert!(asked == read && asked.lines().count() >= 3, "{asked}{read}");
    }
}
