//! C3: a hold that lives can be confirmed.

use super::{Event, History, Op, Outcome, Violation};

/// What a confirm of a hold that lives, and that nobody has ended, is never told.
const LIES: [&str; 6] =
    ["hold_expired", "hold_ended", "not_found", "already_released", "already_cancelled", "revoked"];

pub(super) fn check(history: &History) -> Vec<Violation> {
    let (grants, deadlines) = (history.grants(), history.deadlines());
    let other_ends = other_ends(history);
    let broken = history.events().iter().filter_map(|event| {
        let (Op::Confirm { hold }, Outcome::Refused(code)) = (&event.op, &event.result) else {
            return None;
        };
        let (granted, until) = (grants.get(hold.as_str())?, *deadlines.get(hold.as_str())?);
        let lives = granted.t_return <= event.t_invoke && event.t_return <= until;
        let ended = other_ends.get(hold.as_str()).is_some_and(|end| *end <= event.t_return);
        (lives && !ended && LIES.contains(&code.as_str())).then(|| broken(event, hold, code, until))
    });
    broken.collect()
}

/// When anybody first asked for an end of each hold that is no sale.
fn other_ends(history: &History) -> std::collections::BTreeMap<&str, u64> {
    let mut ends = std::collections::BTreeMap::new();
    for event in history.events() {
        let hold = match &event.op {
            Op::Release { hold } | Op::Cancel { hold } => Some(hold),
            Op::Place { replaces, .. } => replaces.as_ref(),
            _ => None,
        };
        if let Some(hold) = hold {
            ends.entry(hold.as_str()).or_insert(event.t_invoke);
        }
    }
    ends
}

fn broken(event: &Event, hold: &str, code: &str, lives_until: u64) -> Violation {
    let (hold, code) = (hold.to_owned(), code.to_owned());
    Violation::BrokenPromise { hold, code, asked_at: event.t_invoke, lives_until }
}
