//! The OpenAPI document, and the page that shows it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{contract::contract, support::Server};

/// Hands every member of this name to `take`, wherever it stands.
fn each(value: &Value, name: &str, take: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            members.get(name).into_iter().for_each(&mut *take);
            members.values().for_each(|member| each(member, name, take));
        }
        Value::Array(items) => items.iter().for_each(|item| each(item, name, take)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = contract().await.document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut used = BTreeSet::new();
    each(document, "$ref", &mut |target| {
        let target = target.as_str().unwrap().trim_start_matches('#');
        assert!(document.pointer(target).is_some(), "{target}");
        used.insert(target.rsplit('/').next().unwrap().to_owned());
    });
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let unused: Vec<_> = schemas.keys().filter(|name| !used.contains(*name)).collect();
    // Bodies are checked before the rules look at them, and rows are lines of a text.
    assert_eq!(unused, ["Problem.quantity_too_small", "StockRow", "StockRowAsked"]);
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_and_says_what_it_refuses() {
    let operations = contract().await.operations();
    let names: BTreeSet<_> =
        operations.iter().map(|(.., told)| told["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations.len());
    for (path, method, told) in &operations {
        let at = format!("{method} {path}");
        assert!(told["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{at}");
        let responses = told["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}");
        for status in ["400", "403", "405", "500"] {
            assert!(responses.contains_key(status), "{at} {status}");
        }
        let has_body = told.get("requestBody").is_some();
        for status in ["408", "413", "415"] {
            assert_eq!(responses.contains_key(status), has_body, "{at} {status}");
        }
        let of_the_api = path.starts_with("/v1/");
        for status in ["406", "429"] {
            assert_eq!(responses.contains_key(status), of_the_api, "{at} {status}");
        }
    }
}

#[tokio::test]
async fn every_object_is_closed_and_every_integer_has_bounds() {
    let document = contract().await.document();
    each(&document["components"], "properties", &mut |properties| {
        for (name, schema) in properties.as_object().unwrap() {
            if schema["type"] == "integer" && schema.get("enum").is_none() {
                assert!(schema["minimum"].is_i64() && schema["maximum"].is_i64(), "{name}");
            }
        }
    });
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if schema.get("properties").is_some() {
            assert_eq!(schema["additionalProperties"], false, "{name}");
        }
    }
}

#[tokio::test]
async fn the_document_says_what_is_refused() {
    let contract = contract().await;
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let place = |owner: Value| json!({"owner": owner, "lines": [{"sku": "MUG", "quantity": 1}]});
    assert_eq!(contract.fits(&schema("Place"), &place(json!("ann"))), Ok(()));
    assert!(contract.fits(&schema("Place"), &place(json!(1))).is_err());
    assert!(contract.fits(&schema("Place"), &json!({"owner": "ann"})).is_err());
    let mut more = place(json!("ann"));
    more["note"] = json!("x");
    assert!(contract.fits(&schema("Place"), &more).is_err());
    assert!(contract.fits(&schema("Adjustment"), &json!({"receive": 0})).is_err());
    assert!(contract.fits(&schema("Adjustment"), &json!({"receive": 1, "count": 1})).is_err());
}

#[tokio::test]
async fn the_page_is_our_own_and_may_load_nothing_from_elsewhere() {
    let server = Server::start().await;
    let page = server.get("/docs").await.expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("/openapi.json"));
}
