//! The life of one hold, lived again from its transitions: I5 and I7.
//!
//! Every unit of a line lies in exactly one pocket, and every step takes units out of one pocket
//! and puts them into another. So the sums of I5 cannot be wrong here; what breaks I5 is a step
//! that moves units which are not where it takes them.

use std::fmt;

use super::{
    HoldRow, TransitionRow,
    report::{Findings, Invariant},
};
use crate::HoldId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    Confirmed,
    Released,
    Expired,
    Revoked,
    Shipped,
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pocket {
    Held,
    /// Confirmed, and neither shipped nor cancelled.
    Open,
    Released,
    Expired,
    Revoked,
    Shipped,
    Cancelled,
}

struct Rule {
    word: &'static str,
    state: State,
    from: Pocket,
    to: Pocket,
    then: Then,
}

enum Then {
    State(State),
    /// Confirmed while any unit is open, then shipped or cancelled.
    ByUnits,
}

#[rustfmt::skip]
const RULES: [Rule; 7] = [
    Rule { word: "confirm", state: State::Active,    from: Pocket::Held,    to: Pocket::Open,      then: Then::State(State::Confirmed) },
    Rule { word: "rehold",  state: State::Expired,   from: Pocket::Expired, to: Pocket::Open,      then: Then::State(State::Confirmed) },
    Rule { word: "release", state: State::Active,    from: Pocket::Held,    to: Pocket::Released,  then: Then::State(State::Released) },
    Rule { word: "expire",  state: State::Active,    from: Pocket::Held,    to: Pocket::Expired,   then: Then::State(State::Expired) },
    Rule { word: "revoke",  state: State::Active,    from: Pocket::Held,    to: Pocket::Revoked,   then: Then::State(State::Revoked) },
    Rule { word: "ship",    state: State::Confirmed, from: Pocket::Open,    to: Pocket::Shipped,   then: Then::ByUnits },
    Rule { word: "cancel",  state: State::Confirmed, from: Pocket::Open,    to: Pocket::Cancelled, then: Then::ByUnits },
];

/// The units of one line, by pocket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units([i64; 7]);

/// Lives one hold after the other, in the same memory.
#[derive(Debug, Default)]
pub(super) struct Lives {
    lines: Vec<Units>,
}

/// How a hold stands after all its steps.
pub(super) struct Life<'a> {
    pub(super) is_active: bool,
    pub(super) lines: &'a [Units],
}

impl Lives {
    /// Takes all steps of a hold. One that is illegal is reported, and left out.
    pub(super) fn live(&mut self, hold: &HoldRow, findings: &mut Findings) -> Life<'_> {
        self.lines.clear();
        self.lines.extend(hold.lines.iter().map(|line| Units::held_all(line.requested)));
        let mut report = HoldFindings { hold: hold.id, findings };
        check_requested(hold, &mut report);
        check_order(hold, &mut report);
        let mut state = State::Active;
        for transition in &hold.transitions {
            state = self.step(state, transition, &mut report);
        }
        Life { is_active: state == State::Active, lines: &self.lines }
    }

    fn step(&mut self, state: State, row: &TransitionRow, report: &mut HoldFindings<'_>) -> State {
        let TransitionRow { n, step, .. } = row;
        let Some(rule) = RULES.iter().find(|rule| rule.word == step) else {
            report.broken(Invariant::Rows, format_args!("step {n} is an unknown word, {step:?}"));
            return state;
        };
        if state != rule.state {
            let (word, wanted) = (state.word(), rule.state.word());
            let detail =
                format_args!("step {n} ({step}) is from {word}, but only {wanted} allows it");
            report.broken(Invariant::I7, detail);
            return state;
        }
        self.move_units(rule, row, report);
        match rule.then {
            Then::State(state) => state,
            Then::ByUnits => self.state_by_units(),
        }
    }

    fn move_units(&mut self, rule: &Rule, row: &TransitionRow, report: &mut HoldFindings<'_>) {
        match &row.lines {
            None => self.lines.iter_mut().for_each(|line| line.shift_all(rule.from, rule.to)),
            Some(named) => {
                for &(index, units) in named {
                    self.move_named(rule, row.n, index, units, report);
                }
            }
        }
        self.clear_held(rule, row.n, report);
    }

    fn move_named(
        &mut self,
        rule: &Rule,
        n: i64,
        index: i64,
        units: i64,
        report: &mut HoldFindings<'_>,
    ) {
        let (word, count) = (rule.word, self.lines.len());
        let line = usize::try_from(index).ok().and_then(|index| self.lines.get_mut(index));
        let Some(line) = line else {
            let detail = format_args!("step {n} ({word}) names line {index}, but it has {count}");
            return report.broken(Invariant::Rows, detail);
        };
        let there = line.of(rule.from);
        if units < 0 || units > there {
            let from = rule.from.word();
            let detail = format_args!(
                "step {n} ({word}) moves {units} units of line {index}, but {there} are {from}"
            );
            return report.broken(Invariant::I5, detail);
        }
        line.shift(rule.from, rule.to, units);
    }

    /// After its first step a hold holds nothing. What a confirm does not name is released; the
    /// other steps have nothing to leave behind.
    fn clear_held(&mut self, rule: &Rule, n: i64, report: &mut HoldFindings<'_>) {
        for (index, line) in self.lines.iter_mut().enumerate() {
            let held = line.of(Pocket::Held);
            if held != 0 && rule.to != Pocket::Open {
                let word = rule.word;
                let detail =
                    format_args!("step {n} ({word}) leaves {held} units of line {index} held");
                report.broken(Invariant::I5, detail);
            }
            line.shift_all(Pocket::Held, Pocket::Released);
        }
    }

    fn state_by_units(&self) -> State {
        let any = |pocket| self.lines.iter().any(|line| line.of(pocket) > 0);
        if any(Pocket::Open) {
            State::Confirmed
        } else if any(Pocket::Shipped) {
            State::Shipped
        } else {
            State::Cancelled
        }
    }
}

impl Units {
    fn held_all(requested: i64) -> Self {
        let mut units = Self([0; 7]);
        units.0[Pocket::Held as usize] = requested;
        units
    }

    /// Units that are still held. Only an active hold has any.
    pub(super) fn held(&self) -> i64 {
        self.of(Pocket::Held)
    }

    /// Units confirmed and neither shipped nor cancelled.
    pub(super) fn open(&self) -> i64 {
        self.of(Pocket::Open)
    }

    /// Units confirmed and not cancelled.
    pub(super) fn sold(&self) -> i64 {
        self.open().saturating_add(self.shipped())
    }

    /// Units that left the house.
    pub(super) fn shipped(&self) -> i64 {
        self.of(Pocket::Shipped)
    }

    fn of(&self, pocket: Pocket) -> i64 {
        self.0[pocket as usize]
    }

    /// Saturates rather than overflows, though only a line that asks for less than nothing, which
    /// has been reported, could come near.
    fn shift(&mut self, from: Pocket, to: Pocket, units: i64) {
        self.0[from as usize] = self.of(from).saturating_sub(units);
        self.0[to as usize] = self.of(to).saturating_add(units);
    }

    fn shift_all(&mut self, from: Pocket, to: Pocket) {
        self.shift(from, to, self.of(from));
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Pocket {
    const fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Open => "open",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The findings, about one hold.
struct HoldFindings<'a> {
    hold: HoldId,
    findings: &'a mut Findings,
}

impl HoldFindings<'_> {
    fn broken(&mut self, invariant: Invariant, detail: fmt::Arguments<'_>) {
        self.findings.violation(invariant, format_args!("hold {}", self.hold), detail);
    }
}

fn check_requested(hold: &HoldRow, report: &mut HoldFindings<'_>) {
    for (index, line) in hold.lines.iter().enumerate().filter(|(_, line)| line.requested < 1) {
        let requested = line.requested;
        let detail = format_args!("line {index} requests {requested} units; 1 is the least");
        report.broken(Invariant::I5, detail);
    }
}

/// Numbers without gaps, and times that do not run backwards.
fn check_order(hold: &HoldRow, report: &mut HoldFindings<'_>) {
    let (mut next, mut earliest) = (1, hold.created_at);
    for TransitionRow { n, at, step, .. } in &hold.transitions {
        if *n != next {
            let detail = format_args!("step {n} ({step}) stands where step {next} is expected");
            report.broken(Invariant::I7, detail);
        }
        if *at < earliest {
            let detail = format_args!("step {n} ({step}) is at {at}, but {earliest} was before it");
            report.broken(Invariant::I7, detail);
        }
        next = n.saturating_add(1);
        earliest = earliest.max(*at);
    }
}
