//! The settings of the program: from where, in which order, and what is said of a wrong one.

use crate::{
    child::{Serving, run, stockhold},
    support::{Connection, JSON, mugs, request},
};

#[test]
fn the_settings_in_force_can_be_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    let file = "[server]\nmax_connections = 10\nhead_timeout = \"1m\"\n[engine]\nsweep_batch = 7\n";
    std::fs::write(&path, file).unwrap();
    let output = stockhold(&["serve", "--print-settings", "--ledger", "memory:"])
        .env("STOCKHOLD_CONFIG", &path)
        .env("STOCKHOLD_SERVER_MAX_CONNECTIONS", "20")
        .env("STOCKHOLD_LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let shown: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    assert_eq!(shown["server"]["max_connections"].as_integer(), Some(20));
    assert_eq!(shown["server"]["head_timeout"].as_str(), Some("1m"));
    assert_eq!(shown["server"]["listen"].as_str(), Some("127.0.0.1:1"));
    assert_eq!(shown["engine"]["sweep_batch"].as_integer(), Some(7));
    assert_eq!(shown["ledger"]["url"].as_str(), Some("memory:"));
}

#[test]
fn a_wrong_setting_is_a_usage_error_that_says_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    std::fs::write(&path, "[server]\n\nmax_conections = 10\n").unwrap();
    let path = path.to_str().unwrap();
    let output = run(&["serve", "--config", path]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    let expected = format!("error: {path}, line 3: there is no setting server.max_conections; ");
    assert!(complaint.starts_with(&expected), "{complaint}");
    assert_eq!(run(&["serve", "--config", "/nowhere.toml"]).status.code(), Some(2));
}

/// The whole way of a key: made, put into the file, and shown.
#[tokio::test]
async fn a_new_key_opens_what_its_scopes_say() {
    let made = run(&["key", "new", "--name", "shop", "--scopes", "holds,read"]);
    let text = String::from_utf8(made.stdout).unwrap();
    let token = text.lines().find(|line| line.starts_with("sh_")).unwrap();
    let lines = text.split_once("\n[[keys]]").unwrap().1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    std::fs::write(&path, format!("[[keys]]{lines}")).unwrap();
    let config = path.to_str().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--config", config];
    let serving = Serving::start_with("memory:", &args);
    let status = async |method, path, key: &str, body: String| {
        let bearer = format!("Bearer {key}");
        let headers = [JSON, ("Authorization", bearer.as_str())];
        let mut connection = Connection::open(&serving.address).await;
        let bytes = request(&serving.address, method, path, &headers, body.as_bytes());
        connection.send(&bytes).await;
        connection.reply().await.status
    };
    assert_eq!(status("POST", "/v1/holds", token, mugs(1)).await, 404);
    assert_eq!(status("GET", "/v1/stock/MUG", token, String::new()).await, 404);
    assert_eq!(status("PUT", "/v1/stock/MUG", token, "{}".into()).await, 403);
    assert_eq!(status("GET", "/v1/stock/MUG", "sh_wrong", String::new()).await, 401);
}

#[test]
fn with_a_key_an_open_address_needs_no_other_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let key = format!("[[keys]]\nname = \"shop\"\nsha256 = \"{hash}\"\nscopes = [\"read\"]\n");
    std::fs::write(&path, format!("server.listen = \"0.0.0.0:0\"\n{key}")).unwrap();
    let serving = Serving::start_with("memory:", &["--config", path.to_str().unwrap()]);
    assert!(serving.line.starts_with("listening on http://0.0.0.0:"), "{}", serving.line);
}

#[test]
fn a_key_without_a_name_or_with_a_strange_scope_is_not_made() {
    for args in [
        &["key", "new", "--name", "shop"][..],
        &["key", "new", "--scopes", "read"],
        &["key", "new", "--name", "a b", "--scopes", "read"],
        &["key", "new", "--name", "shop", "--scopes", "write"],
    ] {
        let output = run(args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
}
