//! `stockhold bench`, much too short to mean anything.

use std::process::Command;

use serde_json::Value;
use stockhold_testkit::PostgresServer;

fn bench(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockhold"));
    command.args(["bench", "--seconds", "0.4", "--json", "--dir"]).arg(folder.path());
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "the bench tidies up");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn row<'a>(json: &'a Value, kind: &str, items: &str, callers: u32, preloaded: u64) -> &'a Value {
    let is_it = |row: &&Value| {
        row["kind"] == kind
            && row["items"] == items
            && row["callers"] == callers
            && row["preloaded"] == preloaded
    };
    json["rows"].as_array().unwrap().iter().find(is_it).unwrap()
}

#[test]
fn slow_bench_compares_the_engine_with_baselines_and_the_ceiling() {
    let arguments = ["--preload", "1000", "--callers", "1,8", "--only", "engine,baseline,bare"];
    let json = bench(&arguments);
    assert!(json["machine"]["append"]["p50_us"].as_u64().unwrap() > 0);
    for row in json["rows"].as_array().unwrap() {
        assert!(row["per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["durability"].is_string() && row["p99_us"].is_u64(), "{row}");
        let (verified, before) = (&row["holds_verified"], row["preloaded"].as_u64().unwrap());
        let is_refused = row["items"] == "sold_out";
        let placed = if is_refused { 0 } else { row["operations"].as_u64().unwrap() };
        assert!(verified.as_u64().unwrap() >= before + placed, "{row}");
    }
    for (kind, rows) in [("engine", 5.0), ("bare", 5.0), ("selecting", 3.0), ("guarded", 3.0)] {
        let found = row(&json, kind, "hot", 8, 0)["rows_per_hold"].as_f64().unwrap();
        // hold, line, key and the end, which the baselines do not write; and no run of keys yet.
        assert!((found - rows).abs() < 1.01, "{kind}: {found}");
    }
    let engine = row(&json, "engine", "hot", 8, 0);
    let ceiling = row(&json, "bare", "hot", 8, 0);
    let (engine, ceiling) = (&engine["places_per_batch"], &ceiling["places_per_batch"]);
    let (engine, ceiling) = (engine.as_f64().unwrap(), ceiling.as_f64().unwrap());
    assert!((engine / ceiling - 1.0).abs() < 0.2, "{engine} places a batch, {ceiling} bare");
    let targets = json["targets"].as_array().unwrap();
    let measured = targets.iter().filter(|target| target["figure"].is_f64()).count();
    assert_eq!((targets.len(), measured), (9, 7), "{targets:?}");
}

#[test]
fn slow_bench_compares_the_service_with_a_handler_that_does_nothing() {
    let json = bench(&["--callers", "8", "--only", "http"]);
    assert_eq!(json["rows"].as_array().unwrap().len(), 4);
    for row in json["rows"].as_array().unwrap() {
        assert!(row["server_cpu_us"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["load_cpu_share"].as_f64().unwrap() > 0.0, "{row}");
    }
    let nothing = row(&json, "do_nothing", "hot", 8, 0);
    let holds = row(&json, "http", "hot", 8, 0);
    let bytes = |row: &Value| row["answer_bytes"].as_i64().unwrap();
    assert!((bytes(nothing) - bytes(holds)).abs() < 8, "{nothing} {holds}");
    assert!(holds["holds_verified"].as_u64() >= holds["operations"].as_u64());
}

#[test]
fn slow_bench_over_postgres_compares_the_engine_with_baselines_and_the_ceiling() {
    let server = PostgresServer::start();
    let url = server.url();
    let sizes = ["--preload", "1000", "--stock", "2000", "--instances", "2"];
    let json = bench(&[&["--ledger", &*url, "--callers", "1,8"], &sizes[..]].concat());
    assert!(json["server"]["commit"]["p50_us"].as_u64().unwrap() > 0, "{}", json["server"]);
    for row in json["rows"].as_array().unwrap() {
        assert!(row["per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["connections"].as_u64().unwrap() > 0, "{row}");
        let is_engine = row["kind"] == "engine";
        assert_eq!(row["kept_p99_us"].is_u64(), is_engine, "{row}");
        assert_eq!(row["late_most_ms"].is_u64(), is_engine && row["items"] != "sold_out", "{row}");
        if is_engine && row["items"] != "sold_out" || row["kind"] == "bare" {
            let all = row["preloaded"].as_u64().unwrap() + row["operations"].as_u64().unwrap();
            assert!(row["holds_verified"].as_u64().unwrap() >= all, "{row}");
            let rows = row["rows_per_hold"].as_f64().unwrap();
            // hold, key and the end, and with others a batch, or two if one only ended something.
            assert!((3.0..5.01).contains(&rows), "{row}");
        }
    }
    let targets = json["targets"].as_array().unwrap();
    assert!(targets.iter().all(|target| target["figure"].is_f64()), "{targets:?}");
    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'stockhold%'";
    assert_eq!(server.psql(databases), "0", "the bench tidies up");
}

#[test]
fn a_role_that_may_not_make_databases_is_told_what_it_needs() {
    let server = PostgresServer::start();
    server.psql("CREATE ROLE poor LOGIN");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockhold"));
    let url = server.url().replace("postgres@", "poor@");
    let output = command.args(["bench", "--dir", "/tmp", "--ledger", &url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ALTER ROLE poor CREATEDB"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn nonsense_is_a_matter_of_usage() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockhold"));
    let output = command.args(["bench", "--callers", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
