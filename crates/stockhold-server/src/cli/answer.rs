//! What a server answers, as far as it is shown. Fields that are not known here are let be: the
//! server may be a newer one.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::when::{Moment, in_words};

/// A part of a list, and where it goes on.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    #[serde(default, alias = "next_after")]
    pub(super) next_cursor: Option<Cursor>,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Cursor {
    Text(String),
    Number(i64),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Hold {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) owner: String,
    pub(super) reference: Option<String>,
    pub(super) created_at: Moment,
    pub(super) expires_at: Moment,
    pub(super) expires_in_ms: u64,
    pub(super) max_expires_at: Moment,
    pub(super) lines: Vec<Line>,
    #[serde(default)]
    pub(super) reacquired: bool,
}

impl Hold {
    /// When its units come back, if nobody does anything: only an active hold has a deadline.
    pub(super) fn deadline(&self) -> String {
        match self.state.as_str() {
            "active" => format!("in {}", in_words(Duration::from_millis(self.expires_in_ms))),
            _ => String::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) sku: String,
    pub(super) location: String,
    pub(super) requested: i64,
    pub(super) held: i64,
    pub(super) confirmed: i64,
    pub(super) released: i64,
    pub(super) expired: i64,
    pub(super) revoked: i64,
    pub(super) shipped: i64,
    pub(super) cancelled: i64,
}

impl Line {
    /// `2 MUG`, `1 TEE@north`
    pub(super) fn asked_for(&self) -> String {
        format!("{} {}", self.requested, item(&self.sku, &self.location))
    }

    /// `3 confirmed, of these 1 shipped; 2 released`
    pub(super) fn whereabouts(&self) -> String {
        let done = counted([(self.shipped, "shipped"), (self.cancelled, "cancelled")], " and ");
        let confirmed = match (self.confirmed, done.as_str()) {
            (0, _) => String::new(),
            (units, "") => format!("{units} confirmed"),
            (units, done) => format!("{units} confirmed, of these {done}"),
        };
        let others = [
            (self.held, "held"),
            (self.released, "released"),
            (self.expired, "expired"),
            (self.revoked, "revoked"),
        ];
        let others = counted(others, "; ");
        [confirmed, others]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    }
}

fn counted<const N: usize>(counts: [(i64, &str); N], between: &str) -> String {
    let there = counts.into_iter().filter(|(units, _)| *units != 0);
    there.map(|(units, what)| format!("{units} {what}")).collect::<Vec<_>>().join(between)
}

/// The name of a stock item; most shops have one location.
pub(super) fn item(sku: &str, location: &str) -> String {
    match location {
        "default" => sku.to_owned(),
        location => format!("{sku}@{location}"),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Item {
    pub(super) sku: String,
    pub(super) location: String,
    pub(super) on_hand: i64,
    pub(super) held: i64,
    pub(super) allocated: i64,
    pub(super) safety_stock: i64,
    pub(super) available: i64,
    pub(super) next_due_at: Option<Moment>,
    pub(super) as_of: Moment,
}

impl Item {
    /// When the next hold on it dies.
    pub(super) fn next_due(&self) -> String {
        let due = self.next_due_at.map(|at| at.since(self.as_of));
        due.map_or_else(String::new, |left| format!("in {}", in_words(left)))
    }
}

/// An adjustment that was done.
#[derive(Debug, Deserialize)]
pub(super) struct Moved {
    pub(super) movement: Movement,
    pub(super) item: Item,
}

#[derive(Debug, Deserialize)]
pub(super) struct Movement {
    pub(super) id: i64,
    pub(super) sku: String,
    pub(super) location: String,
    pub(super) kind: String,
    pub(super) delta: i64,
    pub(super) on_hand_after: i64,
    pub(super) reason: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) at: Moment,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(fields: &serde_json::Value) -> Line {
        let mut line = json!({"sku": "MUG", "location": "default", "requested": 5, "held": 0,
            "confirmed": 0, "released": 0, "expired": 0, "revoked": 0, "shipped": 0, "cancelled": 0});
        line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn every_unit_of_a_line_is_somewhere() {
        assert_eq!(line(&json!({"held": 5})).whereabouts(), "5 held");
        let settled = line(&json!({"confirmed": 3, "released": 2, "shipped": 1, "cancelled": 1}));
        assert_eq!(
            settled.whereabouts(),
            "3 confirmed, of these 1 shipped and 1 cancelled; 2 released"
        );
        assert_eq!(line(&json!({"location": "north"})).asked_for(), "5 MUG@north");
    }

    #[test]
    fn a_list_goes_on_at_a_text_or_at_a_number() {
        let next = |page| serde_json::from_value::<Page<i64>>(page).unwrap().next_cursor;
        assert_eq!(next(json!({"items": [], "next_cursor": "ab"})).unwrap().to_string(), "ab");
        assert_eq!(next(json!({"items": [1], "next_after": 7})).unwrap().to_string(), "7");
        assert_eq!(next(json!({"items": [], "next_cursor": null})), None);
    }
}
