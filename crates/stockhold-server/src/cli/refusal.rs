//! What a server's refusals mean here: an exit code, the numbers in words, and what to do next.

use std::fmt::Write;

use serde_json::{Map, Value};
use stockhold::IdempotencyKey;

use super::{Exit, Fault, when::Moment};
use crate::{client::Reply, problem};

/// Puts a refusal into words.
pub(super) fn fault(reply: &Reply, key: Option<&IdempotencyKey>) -> Fault {
    match serde_json::from_slice(&reply.body) {
        Ok(Value::Object(problem)) if problem.contains_key("code") => {
            Fault::new(exit(&problem), in_words(&problem, key)).with_answer(&reply.body)
        }
        Ok(_) | Err(_) => Fault::error(format!(
            "the server answers {}, but not as a stockhold server does: is it one?",
            reply.status
        )),
    }
}

fn exit(problem: &Map<String, Value>) -> Exit {
    match text(problem, "code") {
        "insufficient_stock" => Exit::InsufficientStock,
        "hold_expired" => Exit::Expired,
        "hold_ended" if problem.get("hold").is_some_and(|hold| hold["state"] == "expired") => {
            Exit::Expired
        }
        _ => Exit::Error,
    }
}

fn in_words(problem: &Map<String, Value>, key: Option<&IdempotencyKey>) -> String {
    let code = text(problem, "code");
    let mut words = format!("{} ({code}): {}", text(problem, "title"), text(problem, "detail"));
    for line in numbers(problem) {
        // Writing to a String cannot fail.
        let _ = write!(words, "\n  {line}");
    }
    if let Some(next) = next(code, key) {
        let _ = write!(words, "\n  {next}");
    }
    let _ = write!(words, "\n  request {}", text(problem, "request_id"));
    words
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What is said of every problem, or in other words already.
const SAID: [&str; 7] = ["type", "code", "title", "status", "detail", "request_id", "id"];

/// The numbers of this problem: a line for those of the whole, and one for each part.
fn numbers(problem: &Map<String, Value>) -> Vec<String> {
    let rest = problem.iter().filter(|(name, _)| !SAID.contains(&name.as_str()));
    let (parts, whole): (Vec<_>, Vec<_>) = rest.partition(|(_, value)| is_compound(value));
    let whole: Map<_, _> = whole.into_iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    let mut lines = Vec::new();
    if !whole.is_empty() {
        lines.push(facts(&whole));
    }
    for (name, value) in parts {
        match value {
            Value::Array(parts) => {
                lines.extend(parts.iter().filter_map(Value::as_object).map(facts))
            }
            Value::Object(part) if name == "hold" => lines.push(hold(part)),
            _ => {}
        }
    }
    lines
}

const fn is_compound(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Object(_))
}

/// `MUG@default: available 0, requested 2`
fn facts(object: &Map<String, Value>) -> String {
    let named = ["sku", "location"].map(|name| text(object, name));
    let facts = object.iter().filter(|(name, value)| {
        !["sku", "location"].contains(&name.as_str()) && !value.is_null() && !is_compound(value)
    });
    let facts: Vec<_> = facts.map(|(name, value)| fact(name, value)).collect();
    match (named, facts.join(", ")) {
        (["", _], facts) => facts,
        ([sku, location], facts) if facts.is_empty() => format!("{sku}@{location}"),
        ([sku, location], facts) => format!("{sku}@{location}: {facts}"),
    }
}

fn fact(name: &str, value: &Value) -> String {
    let name = name.replace('_', " ");
    match value {
        Value::String(text) => match Moment::try_from(text.clone()) {
            Ok(moment) => format!("{name} {moment}"),
            Err(_) => format!("{name} {text}"),
        },
        other => format!("{name} {other}"),
    }
}

fn hold(hold: &Map<String, Value>) -> String {
    format!("hold {} is {}", text(hold, "id"), text(hold, "state"))
}

/// What helps, in the words of the command line where they are others than those of HTTP.
fn next(code: &str, key: Option<&IdempotencyKey>) -> Option<String> {
    let here = match code {
        "unknown_sku" => "create the item with: stockhold stock set SKU --on-hand UNITS",
        "hold_expired" => "place a new hold; if it is paid already, confirm with --rehold",
        "already_exists" => "change what is on hand with: stockhold stock count, adjust or receive",
        "already_confirmed" => "to give confirmed units back: stockhold hold cancel",
        "no_route" | "method_not_allowed" => "the server may be an older one than this program",
        "unauthorized" => "give an access key by STOCKHOLD_KEY or --key-file",
        "overloaded" => "nothing was done; try again in a moment",
        "unavailable" => return Some(again(key)),
        _ => return problem::cure(code).map(str::to_owned),
    };
    Some(here.to_owned())
}

fn again(key: Option<&IdempotencyKey>) -> String {
    match key {
        Some(key) => format!("try again in a moment, with: --idempotency-key {key}"),
        None => "try again in a moment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use serde_json::json;

    use super::*;

    fn refused(status: u16, problem: &Value) -> Fault {
        let body = Bytes::from(problem.to_string());
        let key = IdempotencyKey::new("k-1").unwrap();
        fault(&Reply { status, replayed: false, retry_after: None, body }, Some(&key))
    }

    fn problem(code: &str, more: &Value) -> Value {
        let mut problem = json!({"type": "/problems/x", "code": code, "title": "Title",
            "status": 409, "detail": "the detail", "request_id": "r-1"});
        let more = more.as_object().unwrap().clone();
        problem.as_object_mut().unwrap().extend(more);
        problem
    }

    #[test]
    fn a_shortage_is_told_line_by_line() {
        let short = json!({"sku": "MUG", "location": "default", "requested": 2, "available": 0,
            "next_due_at": null});
        let fault = refused(409, &problem("insufficient_stock", &json!({"lines": [short]})));
        assert_eq!(fault.exit, Exit::InsufficientStock);
        let words = fault.to_string();
        for part in ["insufficient_stock", "the detail", "MUG@default: available 0, requested 2"] {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert!(words.contains("Ask for fewer units") && words.contains("request r-1"), "{words}");
    }

    #[test]
    fn what_expired_has_an_exit_code_of_its_own() {
        let expired = problem("hold_expired", &json!({"id": "1", "lines": []}));
        let expired = refused(410, &expired);
        assert_eq!(expired.exit, Exit::Expired);
        assert!(expired.to_string().contains("--rehold"));
        for (state, exit) in [("expired", Exit::Expired), ("released", Exit::Error)] {
            let hold = json!({"hold": {"id": "0192", "state": state}});
            let ended = refused(410, &problem("hold_ended", &hold));
            assert_eq!(ended.exit, exit);
            assert!(ended.to_string().contains(&format!("hold 0192 is {state}")), "{ended}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_repeated_under_its_key() {
        let fault = refused(503, &problem("unavailable", &json!({})));
        assert!(fault.to_string().contains("--idempotency-key k-1"), "{fault}");
    }

    #[test]
    fn numbers_of_the_whole_stand_on_one_line() {
        let more = json!({"sku": "MUG", "location": "north", "left": -1, "floor": 0});
        let fault = refused(409, &problem("would_go_below", &more));
        assert!(fault.to_string().contains("MUG@north: floor 0, left -1"), "{fault}");
        let fault = refused(400, &problem("invalid_field", &json!({"field": "ttl_ms"})));
        assert!(fault.to_string().contains("field ttl_ms"), "{fault}");
    }

    #[test]
    fn somebody_else_is_not_taken_for_a_server_of_ours() {
        let fault = refused(404, &json!({"message": "no such page"}));
        assert_eq!(fault.exit, Exit::Error);
        assert!(fault.to_string().contains("404") && fault.to_string().contains("is it one?"));
    }
}
