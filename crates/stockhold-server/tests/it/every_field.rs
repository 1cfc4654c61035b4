//! Every field of every body, as the document lists them, in every way that is wrong for it: a
//! problem that names it, and nothing has moved.

use serde_json::{Map, Value, json};

use crate::{
    contract::{Contract, contract},
    support::{JSON, Server},
};

const TOKEN: &str = "0123456789abcdef";

/// A body that each operation takes.
fn sound(operation: &str) -> Value {
    let lines = json!([{"sku": "MUG", "quantity": 1, "location": "default"}]);
    match operation {
        "place" => json!({"owner": "a", "lines": lines}),
        "confirm" | "ship" | "cancel" => json!({"lines": lines}),
        "release" => json!({}),
        "extend" => json!({"ttl_ms": 1_000}),
        "revoke" => json!({"reason": "x"}),
        "setPolicy" => json!({"on_hand": 10}),
        "adjust" => json!({"delta": -1, "reason": "x"}),
        "acquireLock" => json!({"token": TOKEN, "ttl_ms": 1_000, "wait_ms": 0}),
        "renewLock" => json!({"token": TOKEN, "ttl_ms": 1_000}),
        "releaseLock" => json!({"token": TOKEN}),
        other => panic!("no body for {other}"),
    }
}

/// Texts of JSON that no field takes.
const NEVER: [&str; 6] = ["true", "[[1]]", "NaN", "1e999", "-", "'x'"];

fn wrong(contract: &Contract, schema: &Value) -> Vec<String> {
    let solid = contract.solid(schema);
    let mut texts: Vec<String> = NEVER.map(str::to_owned).to_vec();
    let mut add = |more: &[&str]| texts.extend(more.iter().map(|text| (*text).to_owned()));
    let named = |name: &str| solid["type"] == name || solid["type"][0] == name;
    if named("string") {
        add(&["0", "1.5", "[]", "{}", "\"a\u{1}b\"", "\"a\\u0007b\"", "\"\\ud800\""]);
        texts.push(format!("\"{}\"", "x".repeat(60_000)));
        if solid["minLength"] == 1 {
            texts.push("\"\"".to_owned());
        }
    } else if named("integer") {
        add(&[
            "\"3\"",
            "\"\"",
            "1.5",
            "1e308",
            "9007199254740992",
            "18446744073709551616",
            "[]",
            "{}",
        ]);
        let least = solid["minimum"].as_i64().unwrap();
        texts.push((i128::from(least) - 1).to_string());
    } else {
        add(&["0", "\"x\"", "{}", "1e308"]);
    }
    if !contract.takes_null(schema) {
        texts.push("null".to_owned());
    }
    texts.push(format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)));
    texts
}

/// A body with this text in the place of a field.
fn with(body: &Map<String, Value>, name: &str, text: &str) -> String {
    let others = body.iter().filter(|(other, _)| *other != name);
    let others: String = others.map(|(name, value)| format!("\"{name}\":{value},")).collect();
    format!("{{{others}\"{name}\":{text}}}")
}

struct Route<'a> {
    server: &'a Server,
    method: String,
    path: String,
}

impl Route<'_> {
    async fn refuses(&self, body: &str, field: &str) {
        let headers = [JSON, ("Idempotency-Key", "k")];
        let is_keyed = self.method == "POST" && !self.path.starts_with("/v1/locks/");
        let headers = &headers[..if is_keyed { 2 } else { 1 }];
        let reply = self.server.ask(&self.method, &self.path, headers, body.as_bytes()).await;
        let shown: String = body.chars().take(200).collect();
        assert_eq!(reply.status, 400, "{} {shown}: {}", self.path, reply.text());
        let problem = reply.json();
        let named = problem["field"].as_str().unwrap();
        // What is wrong within a list is named by its place.
        let is_named = named == field || named.starts_with(&format!("{field}["));
        assert!(is_named, "{} {shown}: {field}, not {problem}", self.path);
    }

    /// Each field of an object in every wrong way; `around` puts the object into its body.
    async fn refuses_fields(
        &self,
        schema: &Value,
        sound: &Value,
        at: &str,
        around: fn(&str) -> String,
    ) {
        let contract = contract().await;
        let schema = contract.solid(schema);
        let sound = sound.as_object().unwrap();
        for (name, field) in schema["properties"].as_object().unwrap() {
            let path = format!("{at}{name}");
            for text in wrong(contract, field) {
                self.refuses(&around(&with(sound, name, &text)), &path).await;
            }
            if let Some(value) = sound.get(name) {
                let twice = with(sound, name, &format!("{value},\"{name}\":{value}"));
                self.refuses(&around(&twice), &path).await;
            }
            let required = schema["required"].as_array().into_iter().flatten();
            if required.into_iter().any(|required| required == name) {
                let mut without = sound.clone();
                without.remove(name);
                self.refuses(&around(&Value::from(without).to_string()), &path).await;
            }
        }
        self.refuses(&around(&with(sound, "unknown", "1")), &format!("{at}unknown")).await;
    }
}

fn alone(object: &str) -> String {
    object.to_owned()
}

fn in_lines(line: &str) -> String {
    format!("{{\"owner\":\"a\",\"lines\":[{line}]}}")
}

fn in_named_lines(line: &str) -> String {
    format!("{{\"lines\":[{line}]}}")
}

#[tokio::test]
async fn every_wrong_field_of_every_body_is_named() {
    let server = Server::with_mugs(10).await;
    let hold = server.hold_mugs(1).await;
    let contract = contract().await;
    for (path, method, told) in contract.operations() {
        let Some(content) = told["requestBody"]["content"].get("application/json") else {
            continue;
        };
        let operation = told["operationId"].as_str().unwrap();
        if operation == "batch" {
            continue; // its items are refused one by one: see batch.rs
        }
        let path = path.replace("/v1/holds/{id}", &hold).replace("{sku}", "MUG");
        let route = Route { server: &server, method: method.to_uppercase(), path };
        let (schema, sound) = (contract.solid(&content["schema"]), sound(operation));
        // Of the sorts of an adjustment, those fields that the others do not have are tested apart.
        let schema = schema.get("oneOf").map_or(schema, |sorts| &sorts[0]);
        route.refuses_fields(schema, &sound, "", alone).await;
        if let Some(lines) = schema["properties"].get("lines") {
            let around = if operation == "place" { in_lines } else { in_named_lines };
            route.refuses_fields(&lines["items"], &sound["lines"][0], "lines[0].", around).await;
        }
    }
    assert_eq!(server.mugs().await, [10, 1, 0, 9]);
}
