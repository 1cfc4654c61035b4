//! Where a scenario is played: a ledger, a clock, and the names of the holds.

use std::{collections::BTreeSet, sync::Arc};

use stockhold_core::{
    Action, Book, Command, Hold, HoldId, HoldView, IdempotencyKey, InvalidName, ItemKey, Limits,
    LoadMode, MovementKind, OnExpired, Outcome, Place, Quantity, Reason, Rejection, Shortage,
    Timestamp, Ttl,
};

use super::{
    facts::Facts,
    parse::{self, Words},
};
use crate::{
    ledger::{Answer, Fate, Ledger},
    rows::Fault,
};

#[derive(Debug)]
pub(super) struct Stage {
    ledger: Ledger,
    fate: Fate,
    names: Vec<(String, HoldId)>,
    last_id: u128,
    last_key: u32,
}

impl Stage {
    pub(super) fn new(limits: Limits, fate: Fate) -> Self {
        let ledger = Ledger::new(limits);
        Self { ledger, fate, names: vec![], last_id: 0, last_key: 0 }
    }

    /// Plays what one line asks. Of a question, returns what it expects as well.
    pub(super) fn play<'a>(&mut self, ask: &'a str) -> Result<(Facts, Option<&'a str>), Fault> {
        let (verb, rest) = ask.split_once(char::is_whitespace).unwrap_or((ask, ""));
        let rest = rest.trim();
        match verb {
            "at" => self.play_at(rest),
            "wait" | "outage" | "clock" => Ok((self.pass(verb, rest)?, None)),
            "stock?" => Ok((self.stock(rest)?, Some(rest))),
            "moves?" => Ok((self.moves(rest)?, Some(rest))),
            "hold?" => {
                let (name, expected) = rest.split_once(' ').unwrap_or((rest, ""));
                Ok((self.hold(name)?, Some(expected)))
            }
            "sweep" => Ok((self.sweep()?, None)),
            _ => Ok((self.command(verb, Words::new(rest))?, None)),
        }
    }

    fn play_at<'a>(&mut self, rest: &'a str) -> Result<(Facts, Option<&'a str>), Fault> {
        let (time, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let ahead = parse::millis(time)? - self.ledger.now.as_millis();
        if ahead < 0 {
            return Err(format!("it is later than {time} already"));
        }
        self.ledger.wait(ahead);
        if rest.is_empty() { Ok((ok(), None)) } else { self.play(rest.trim()) }
    }

    fn pass(&mut self, verb: &str, rest: &str) -> Result<Facts, Fault> {
        match (verb, rest.strip_prefix("back ")) {
            ("wait", None) => self.ledger.wait(parse::millis(rest)?),
            ("outage", None) => self.ledger.outage(parse::millis(rest)?)?,
            ("clock", Some(time)) => self.ledger.step_back(parse::millis(time)?),
            _ => return Err(format!("unknown word in {rest}")),
        }
        Ok(ok())
    }

    /// Expires what is due; all of it, and nothing else.
    fn sweep(&mut self) -> Result<Facts, Fault> {
        let due = self.ledger.book.due(self.ledger.now, usize::MAX);
        for id in &due {
            let command = Command::new(Action::Expire { id: *id });
            let _answer = self.ledger.apply(&command, self.fate)?;
        }
        if !self.ledger.book.due(self.ledger.now, 1).is_empty() {
            return Err("something is still due after a sweep".into());
        }
        self.ledger.verify_swept()?;
        let mut facts = ok();
        facts.say(format!("expired={}", due.len()));
        Ok(facts)
    }
}

/// Commands and their answers.
impl Stage {
    fn command(&mut self, verb: &str, mut words: Words<'_>) -> Result<Facts, Fault> {
        let name = words.next()?;
        let fresh = HoldId::from_bytes(self.fresh_id());
        let action = match verb {
            "place" => self.place(fresh, name, &mut words)?,
            "stock" | "policy" | "load" | "receive" | "adjust" | "count" => {
                stock_action(verb, Arc::new(parse::item(name)?), &mut words)?
            }
            _ => hold_action(verb, self.id_of(name, fresh)?, &mut words)?,
        };
        let command = self.keyed(action, words.option("key"))?;
        words.finish()?;
        let answer = self.ledger.apply(&command, self.fate)?;
        if verb == "place" {
            self.bind(name, fresh, &answer)?;
        }
        Ok(self.facts(&answer))
    }

    fn place(&self, id: HoldId, name: &str, words: &mut Words<'_>) -> Result<Action, Fault> {
        let replaced = words.option("replaces").map(|old| self.id_of(old, id)).transpose()?;
        Ok(Action::Place(Place {
            id,
            owner: words.option("owner").unwrap_or(name).parse().map_err(invalid)?,
            ttl: words.option("ttl").map(ttl).transpose()?,
            lines: words.basket()?.ok_or("a place needs lines")?,
            replaces: replaced,
            reference: words.option("ref").map(str::parse).transpose().map_err(invalid)?,
        }))
    }

    fn keyed(&mut self, action: Action, key: Option<&str>) -> Result<Command, Fault> {
        let fresh = format!("fresh-{}", self.last_key);
        let key = match key {
            None if action.needs_key() => fresh.as_str(),
            None | Some("-") => return Ok(Command::new(action)),
            Some(key) => key,
        };
        self.last_key += 1;
        Ok(Command::keyed(action, &key.parse::<IdempotencyKey>().map_err(invalid)?))
    }

    fn fresh_id(&mut self) -> [u8; 16] {
        self.last_id += 1;
        self.last_id.to_be_bytes()
    }

    fn id_of(&self, name: &str, nobody: HoldId) -> Result<HoldId, Fault> {
        if name == "?" {
            return Ok(nobody);
        }
        let named = self.names.iter().find(|(known, _)| known == name);
        named.map(|(_, id)| *id).ok_or_else(|| format!("unknown word: no hold is named {name}"))
    }

    /// The name of a refused place may be used again.
    fn bind(&mut self, name: &str, fresh: HoldId, answer: &Answer) -> Result<(), Fault> {
        let is_free = |book: &Book, id| book.hold(id).is_none();
        let book = &self.ledger.book;
        self.names.retain(|(known, id)| known != name || !is_free(book, *id));
        if !self.names.iter().any(|(known, _)| known == name) {
            self.names.push((name.to_owned(), fresh));
            return Ok(());
        }
        match answer {
            Ok(Outcome::Placed(placed)) if !placed.replayed => {
                Err(format!("{name} is there twice"))
            }
            _ => Ok(()),
        }
    }

    fn name_of(&self, id: HoldId) -> &str {
        self.names.iter().find(|(_, known)| *known == id).map_or("?", |(name, _)| name)
    }

    fn facts(&self, answer: &Answer) -> Facts {
        match answer {
            Ok(outcome) => self.outcome_facts(outcome),
            Err(rejection) => self.rejection_facts(rejection),
        }
    }

    fn outcome_facts(&self, outcome: &Outcome) -> Facts {
        let mut facts = ok();
        match outcome {
            Outcome::Placed(placed) => {
                say_if(&mut facts, "replayed", placed.replayed);
                self.view_facts(&mut facts, &placed.hold);
            }
            Outcome::Settled(settled) => {
                say_if(&mut facts, "replayed", settled.replayed);
                say_if(&mut facts, "reacquired", settled.reacquired);
                self.view_facts(&mut facts, &settled.hold);
            }
            Outcome::StockMoved(moved) => {
                say_if(&mut facts, "replayed", moved.replayed);
                facts.say(format!("delta={}", moved.movement.delta));
                facts.say(format!("on_hand={}", moved.movement.on_hand_after));
            }
            Outcome::PolicySet(set) => say_if(&mut facts, "created", set.created),
            Outcome::Loaded(loaded) => drop(facts.say(loaded.as_str())),
        }
        facts
    }

    fn rejection_facts(&self, rejection: &Rejection) -> Facts {
        let mut facts = Facts::default();
        facts.say(rejection.code());
        match rejection {
            Rejection::InsufficientStock { lines, of } => {
                facts.say(format!("of={of}"));
                shortage_facts(&mut facts, lines);
            }
            Rejection::HoldExpired { lines, .. } => shortage_facts(&mut facts, lines),
            Rejection::HoldEnded { hold } => self.view_facts(&mut facts, hold),
            Rejection::AlreadyConfirmed { reference, confirmed, .. } => {
                facts.say(format!("ref={}", reference.as_ref().map_or("none", |r| r.as_str())));
                for (item, units) in confirmed {
                    facts.of(&parse::item_name(item), "confirmed", units);
                }
            }
            Rejection::NotConfirmed { state, .. } => {
                facts.say(state.as_str());
            }
            Rejection::MaxLifetime { max_expires_at, .. } => {
                facts.say(format!("expires={}", parse::time(*max_expires_at)));
            }
            _ => item_rejection_facts(&mut facts, rejection),
        }
        facts
    }
}

/// Questions.
impl Stage {
    fn stock(&self, rest: &str) -> Result<Facts, Fault> {
        let name = rest.split_whitespace().next().unwrap_or("");
        let key = Arc::new(parse::item(name)?);
        let mut facts = Facts::default();
        let Ok(view) = self.ledger.book.stock_view(&key, self.ledger.now) else {
            return Ok(self.rejection_facts(&Rejection::UnknownSku { items: vec![key] }));
        };
        let item = &view.item;
        facts.of(name, "on_hand", item.on_hand).of(name, "held", item.held);
        facts.of(name, "allocated", item.allocated).of(name, "lent", item.lent);
        facts.of(name, "safety_stock", item.safety_stock);
        facts.of(name, "available", item.available());
        facts.of(name, "next_due", time_or_none(view.next_due_at));
        facts.of(name, "touched", parse::time(item.touched_at));
        Ok(facts)
    }

    /// The movements of an item as one fact: `create+10,ship-2`.
    fn moves(&self, rest: &str) -> Result<Facts, Fault> {
        let name = rest.split_whitespace().next().unwrap_or("");
        let key = parse::item(name)?;
        let moves = self.ledger.rows.movements_of(&key);
        let moves: Vec<_> = moves.map(|m| in_short(m.kind, m.delta)).collect();
        let mut facts = Facts::default();
        facts.of_plain(name, moves.join(","));
        Ok(facts)
    }

    fn hold(&self, name: &str) -> Result<Facts, Fault> {
        let id = self.id_of(name, HoldId::from_bytes([0; 16]))?;
        let mut facts = Facts::default();
        match self.ledger.book.hold_view(id, self.ledger.now) {
            Some(view) => self.view_facts(&mut facts, &view),
            None => {
                facts.say("not_found");
            }
        }
        Ok(facts)
    }

    fn view_facts(&self, facts: &mut Facts, view: &HoldView) {
        let hold = &view.hold;
        facts.say(hold.state.as_str()).say(format!("hold={}", self.name_of(hold.id)));
        facts.say(format!("owner={}", hold.owner));
        facts.say(format!("created={}", parse::time(hold.created_at)));
        facts.say(format!("expires={}", parse::time(view.expires_at)));
        facts.say(format!("expires_in={}ms", view.expires_in().as_millis()));
        let reference = hold.reference.as_ref().map_or("none", |r| r.as_str());
        facts.say(format!("ref={reference}"));
        let replaced_by = hold.replaced_by.map_or("none", |id| self.name_of(id));
        facts.say(format!("replaced_by={replaced_by}"));
        let steps: Vec<_> =
            self.ledger.rows.steps(hold.id).iter().map(|step| step.step.as_str()).collect();
        facts.say(format!("steps={}", steps.join(",")));
        line_facts(facts, hold);
    }
}

fn ok() -> Facts {
    Facts::parse("ok")
}

fn say_if(facts: &mut Facts, word: &str, is_so: bool) {
    if is_so {
        facts.say(word);
    }
}

fn line_facts(facts: &mut Facts, hold: &Hold) {
    for line in &hold.lines {
        let item = parse::item_name(&line.item);
        let quantities = [
            ("requested", line.requested),
            ("held", line.held),
            ("confirmed", line.confirmed),
            ("released", line.released),
            ("expired", line.expired),
            ("revoked", line.revoked),
            ("shipped", line.shipped),
            ("cancelled", line.cancelled),
        ];
        for (name, units) in quantities {
            facts.of(&item, name, units);
        }
    }
}

fn shortage_facts(facts: &mut Facts, lines: &[Shortage]) {
    let names: BTreeSet<_> = lines.iter().map(|line| parse::item_name(&line.item)).collect();
    facts.say(format!("short={}", names.len()));
    for line in lines {
        let item = parse::item_name(&line.item);
        facts.of(&item, "requested", line.requested).of(&item, "available", line.available);
        facts.of(&item, "next_due", time_or_none(line.next_due_at));
    }
}

/// Refusals that are about items, or about a number.
fn item_rejection_facts(facts: &mut Facts, rejection: &Rejection) {
    match rejection {
        Rejection::UnknownSku { items } => items.iter().for_each(|item| say_of(facts, item, &[])),
        Rejection::NotInHold { item, .. } => say_of(facts, item, &[]),
        Rejection::MoreThanHeld { item, requested, held } => {
            say_of(facts, item, &[("requested", requested), ("held", held)]);
        }
        Rejection::MoreThanOpen { item, requested, open } => {
            say_of(facts, item, &[("requested", requested), ("open", open)]);
        }
        Rejection::AlreadyExists { item, on_hand, safety_stock } => {
            say_of(facts, item, &[("on_hand", on_hand), ("safety_stock", safety_stock)]);
        }
        Rejection::WouldGoBelow { item, left, floor } => {
            say_of(facts, item, &[("left", left), ("floor", floor)]);
        }
        Rejection::OnHandDiffers { item, expected, on_hand } => {
            say_of(facts, item, &[("expected", expected), ("on_hand", on_hand)]);
        }
        Rejection::QuantityTooLarge { item, requested, max } => {
            say_of(facts, item, &[("requested", requested), ("max", max)]);
        }
        Rejection::TooManyLines { lines, max } => {
            facts.say(format!("lines={lines}")).say(format!("max={max}"));
        }
        _ => {}
    }
}

fn say_of(facts: &mut Facts, item: &ItemKey, numbers: &[(&str, &Quantity)]) {
    let name = parse::item_name(item);
    facts.mention(&name);
    for (number, units) in numbers {
        facts.of(&name, number, units);
    }
}

fn in_short(kind: MovementKind, delta: Quantity) -> String {
    let sign = if delta.is_negative() { "" } else { "+" };
    format!("{}{sign}{delta}", kind.as_str())
}

fn time_or_none(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "none".to_owned(), parse::time)
}

/// The verbs on stock.
fn stock_action(verb: &str, item: Arc<ItemKey>, words: &mut Words<'_>) -> Result<Action, Fault> {
    let reason = Reason::new(words.option("reason").unwrap_or("test")).map_err(invalid)?;
    let safety_stock = words.quantity("safety")?;
    if verb == "policy" {
        let on_hand = words.quantity("on_hand")?;
        return Ok(Action::SetPolicy { item, on_hand, safety_stock });
    }
    let units = parse::quantity(words.next()?)?;
    Ok(match verb {
        "stock" => Action::SetPolicy { item, on_hand: Some(units), safety_stock },
        "load" => {
            let mode = if words.flag("count") { LoadMode::Count } else { LoadMode::Create };
            Action::Load { item, on_hand: units, safety_stock, mode }
        }
        "receive" => {
            let reference = words.option("ref").map(str::parse).transpose().map_err(invalid)?;
            Action::Receive { item, units, reference }
        }
        "adjust" => {
            let min_available = words.quantity("min_available")?;
            Action::Adjust { item, delta: units, reason, min_available }
        }
        "count" => {
            let if_on_hand = words.quantity("if_on_hand")?;
            Action::Count { item, count: units, reason, if_on_hand }
        }
        _ => return Err(format!("unknown word: {verb}")),
    })
}

/// The verbs on a hold.
fn hold_action(verb: &str, id: HoldId, words: &mut Words<'_>) -> Result<Action, Fault> {
    let reason = words.option("reason").map(Reason::new).transpose().map_err(invalid)?;
    Ok(match verb {
        "confirm" => Action::Confirm {
            id,
            lines: words.basket()?,
            on_expired: if words.flag("rehold") { OnExpired::Rehold } else { OnExpired::Fail },
            reference: words.option("ref").map(str::parse).transpose().map_err(invalid)?,
        },
        "release" => Action::Release { id, reason },
        "extend" => Action::Extend { id, ttl: ttl(words.option("ttl").ok_or("no ttl")?)? },
        "expire" => Action::Expire { id },
        "revoke" => {
            let by_whom = Reason::new("operator").map_err(invalid)?;
            Action::Revoke { id, reason: reason.unwrap_or(by_whom) }
        }
        "ship" => Action::Ship { id, lines: words.basket()? },
        "cancel" => Action::Cancel { id, lines: words.basket()? },
        _ => return Err(format!("unknown word: {verb}")),
    })
}

fn ttl(text: &str) -> Result<Ttl, Fault> {
    let millis = u64::try_from(parse::millis(text)?).map_err(|e| e.to_string())?;
    Ttl::from_millis(millis).ok_or_else(|| format!("{text} is no ttl"))
}

// By value, so that it fits `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err wants")]
fn invalid(name: InvalidName) -> Fault {
    name.to_string()
}
