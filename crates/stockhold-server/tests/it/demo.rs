//! The demo, run as anybody would run it.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockhold"));
    command.arg("demo").args(args);
    for name in ["STOCKHOLD_LEDGER", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn units(item: &Value, name: &str) -> i64 {
    item[name].as_i64().unwrap()
}

/// Every unit of every SKU is either in an order that a shopper saw acknowledged, or for sale.
fn assert_conserved(report: &Value) {
    let items = report["items"].as_array().unwrap();
    assert_eq!(items.len(), 51);
    for item in items {
        assert_eq!(units(item, "confirmed"), units(item, "allocated"), "{item}");
        assert_eq!(units(item, "confirmed") + units(item, "available"), units(item, "units"));
        assert_eq!((units(item, "held"), units(item, "unknown")), (0, 0), "{item}");
    }
}

/// Every visit came to exactly one end, and every place was answered with yes or no.
fn assert_all_accounted_for(counts: &Value, shoppers: i64) {
    let sum = |names: &[&str]| names.iter().map(|name| units(counts, name)).sum::<i64>();
    let ends = ["confirmed", "released", "expired", "went_without", "unknown", "gave_up"];
    assert_eq!(sum(&ends), shoppers, "{counts}");
    assert_eq!(units(counts, "attempts"), sum(&["held", "refused"]), "{counts}");
}

fn sells_exactly(args: &[&str]) {
    let output = demo(&[&["--shoppers", "500", "--units", "50", "--json"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["verify"]["clean"], true, "{report:#}");
    assert_eq!(report["counts"]["oversold_units"], 0, "{report:#}");
    assert_eq!(report["items"][0]["units"], 50, "the hot SKU comes first");
    assert!(units(&report["items"][0], "confirmed") > 0, "{report:#}");
    assert_conserved(&report);
    assert_all_accounted_for(&report["counts"], 500);
}

#[test]
fn a_flash_sale_on_sqlite_conserves_every_unit() {
    sells_exactly(&["--seed", "1"]);
}

#[test]
fn a_flash_sale_in_memory_over_two_connections_conserves_every_unit() {
    sells_exactly(&["--seed", "2", "--ledger", "memory:", "--connections", "2"]);
}

#[test]
fn the_demo_leaves_a_ledger_that_exists_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.db");
    std::fs::write(&path, "precious").unwrap();
    let output = demo(&["--ledger", &format!("sqlite:{}", path.display())]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}
