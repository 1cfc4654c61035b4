//! C9: a lock has one holder, and its fences rise.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Fence, History, Op, Violation};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (lock, leases) in leases(history) {
        found.extend(two_holders(lock, &leases));
        let grants = leases.iter().map(|(fence, lease)| (lease.asked, lease.from, *fence));
        found.extend(not_rising(lock, grants.collect(), Rising::Strictly));
    }
    for (lock, uses) in uses(history) {
        found.extend(not_rising(lock, uses, Rising::OrSame));
    }
    found
}

/// A lease, and when it was held for sure.
#[derive(Clone, Copy, Debug)]
struct Lease {
    asked: u64,
    from: u64,
    until: u64,
}

type Leases = Vec<(Fence, Lease)>;

/// One for each answer, so that a fence that was granted twice is two leases.
fn leases(history: &History) -> BTreeMap<&str, Leases> {
    let mut leases = BTreeMap::<&str, Leases>::new();
    for event in first_answers(history) {
        let (Op::Acquire { lock }, Some(granted)) = (&event.op, event.granted()) else { continue };
        let until = event.lives_until(history.drift_ms).unwrap_or(event.t_return);
        let lease = Lease { asked: event.t_invoke, from: event.t_return, until };
        if let Some(fence) = granted.fence {
            leases.entry(lock).or_default().push((fence, lease));
        }
    }
    for event in history.events() {
        if let (Op::Renew { lock, fence }, Some(until)) =
            (&event.op, event.lives_until(history.drift_ms))
        {
            change(&mut leases, lock, *fence, |lease| lease.until = lease.until.max(until));
        }
    }
    // Whoever asks for the end of a lease holds it no longer, whatever a renewal was told.
    for event in history.events() {
        if let Op::Unlock { lock, fence } = &event.op {
            change(&mut leases, lock, *fence, |lease| {
                lease.until = lease.until.min(event.t_invoke)
            });
        }
    }
    leases
}

/// A lock that is asked for again under the same key, and granted with the same fence, is the same
/// lease.
fn first_answers(history: &History) -> Vec<&Event> {
    let mut seen = BTreeSet::new();
    let mut answers: Vec<_> = history.events().iter().filter(|e| e.granted().is_some()).collect();
    answers.sort_by_key(|event| event.t_return);
    answers.retain(|event| match &event.key {
        Some(key) => seen.insert((key, event.granted().and_then(|granted| granted.fence))),
        None => true,
    });
    answers
}

fn change(leases: &mut BTreeMap<&str, Leases>, lock: &str, of: Fence, change: impl Fn(&mut Lease)) {
    let leases = leases.get_mut(lock).into_iter().flatten();
    leases.filter(|(fence, _)| *fence == of).for_each(|(_, lease)| change(lease));
}

/// The first instant at which two held it.
fn two_holders(lock: &str, leases: &Leases) -> Option<Violation> {
    let mut held: Vec<_> = leases.iter().filter(|(_, lease)| lease.from < lease.until).collect();
    held.sort_by_key(|(_, lease)| lease.from);
    let mut last: Option<(Fence, Lease)> = None;
    for (fence, lease) in held {
        match last {
            Some((other, before)) if lease.from < before.until => {
                let (lock, fences) = (lock.to_owned(), vec![other, *fence]);
                return Some(Violation::TwoHolders { lock, at: lease.from, fences });
            }
            _ => last = Some((*fence, *lease)),
        }
    }
    None
}

/// Whether the same fence may come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rising {
    Strictly,
    OrSame,
}

/// When something was asked and answered, and with which fence.
type Fenced = (u64, u64, Fence);

/// Whatever was asked after another was answered has the higher fence.
fn not_rising(lock: &str, mut asked: Vec<Fenced>, rising: Rising) -> Option<Violation> {
    let mut answered = asked.clone();
    asked.sort_by_key(|(asked, _, _)| *asked);
    answered.sort_by_key(|(_, answered, _)| *answered);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<Fence> = None;
    for (at, _, later) in asked {
        while let Some((_, _, fence)) = answered.next_if(|(_, answered, _)| *answered <= at) {
            highest = highest.max(Some(fence));
        }
        let Some(earlier) = highest else { continue };
        if later < earlier || (later == earlier && rising == Rising::Strictly) {
            return Some(Violation::FenceNotRising { lock: lock.to_owned(), earlier, later, at });
        }
    }
    None
}

fn uses(history: &History) -> BTreeMap<&str, Vec<Fenced>> {
    let mut uses = BTreeMap::<&str, Vec<_>>::new();
    for event in history.events() {
        if let (Op::Use { lock, fence }, Some(_)) = (&event.op, event.granted()) {
            uses.entry(lock).or_default().push((event.t_invoke, event.t_return, *fence));
        }
    }
    uses
}
