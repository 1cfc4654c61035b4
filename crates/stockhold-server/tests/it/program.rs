//! The program itself: what it prints, and how it ends.

use stockhold_testkit::Signal;

use crate::{
    child::{Serving, run, url},
    support::mugs,
};

#[tokio::test]
async fn a_server_says_where_it_listens_and_ends_in_good_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let serving = Serving::start("memory:");
        let expected = format!("listening on http://{} (ledger memory:)\n", serving.address);
        assert_eq!(serving.line, expected);
        serving.ask("PUT", "/v1/stock/MUG", r#"{"on_hand":1}"#).await.expect(201);
        assert_eq!(serving.end(signal), (Some(0), String::new()));
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = url(&folder.path().join("shop.db"));
    let serving = Serving::start(&ledger);
    serving.ask("PUT", "/v1/stock/MUG", r#"{"on_hand":5}"#).await.expect(201);
    let hold = serving.ask("POST", "/v1/holds", &mugs(2)).await.expect(201);
    assert_eq!(serving.end(Signal::TERM).0, Some(0));
    let serving = Serving::start(&ledger);
    let again = serving.ask("GET", hold.header("location").unwrap(), "").await.expect(200);
    assert_eq!(again.json()["id"], hold.json()["id"]);
}

#[tokio::test]
async fn a_ledger_has_one_server_and_any_number_of_verifiers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let ledger = url(&path);
    let serving = Serving::start(&ledger);
    serving.ask("PUT", "/v1/stock/MUG", r#"{"on_hand":5}"#).await.expect(201);
    serving.ask("POST", "/v1/holds", &mugs(2)).await.expect(201);

    let second = run(&["serve", "--listen", "127.0.0.1:0", "--ledger", &ledger]);
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert_eq!((second.status.code(), second.stdout.len()), (Some(1), 0), "{complaint}");
    assert!(complaint.starts_with("error: ") && complaint.contains("shop.db"), "{complaint}");

    let clean = run(&["verify", "--ledger", &ledger]);
    let report = String::from_utf8(clean.stdout).unwrap();
    assert_eq!(clean.status.code(), Some(0), "{report}");
    assert!(report.contains("1 items, 1 holds") && report.contains("clean"), "{report}");
    let json = run(&["verify", "--json", "--ledger", &ledger]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((report["clean"].as_bool(), report["holds"].as_u64()), (Some(true), Some(1)));
}

#[tokio::test]
async fn a_broken_invariant_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let serving = Serving::start(&url(&path));
    serving.ask("PUT", "/v1/stock/MUG", r#"{"on_hand":5}"#).await.expect(201);
    assert_eq!(serving.end(Signal::TERM).0, Some(0));
    let by_hand = rusqlite::Connection::open(&path).unwrap();
    by_hand.execute("UPDATE stock SET held = 1", []).unwrap();
    drop(by_hand);
    let broken = run(&["verify", "--ledger", &url(&path)]);
    let report = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.status.code(), Some(5), "{report}");
    assert!(report.contains("I2") && report.contains("MUG@default"), "{report}");
    let json = run(&["verify", "--json", "--ledger", &url(&path)]);
    assert_eq!(json.status.code(), Some(5));
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["violations"][0]["invariant"], "I2");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for args in [
        &["serve", "--listen", "here"][..],
        &["serve", "--ledger", "mysql://x"],
        &["serve", "--log", "=x="],
        &["serve", "--listen", "0.0.0.0:0", "--ledger", "memory:"],
        &["verify", "--ledger", "memory:"],
        &["frobnicate"],
        &[],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn an_open_address_needs_a_word() {
    let output = run(&["serve", "--listen", "0.0.0.0:0", "--ledger", "memory:"]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("--insecure"), "{complaint}");
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = url(&folder.path().join("missing.db"));
    assert_eq!(run(&["verify", "--ledger", &missing]).status.code(), Some(1));
    let note = folder.path().join("note.db");
    std::fs::write(&note, "not a ledger".repeat(1_000)).unwrap();
    assert_eq!(run(&["verify", "--ledger", &url(&note)]).status.code(), Some(1));
    let serve = run(&["serve", "--listen", "127.0.0.1:0", "--ledger", &url(&note)]);
    assert_eq!(serve.status.code(), Some(1));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &address, "--ledger", "memory:"]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains(&address) && complaint.contains("--listen"), "{complaint}");
}
