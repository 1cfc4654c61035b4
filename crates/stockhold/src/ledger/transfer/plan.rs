//! What is to be done with two ledgers, by what they say of themselves; and what people are told.
//! Both are known by their ids, whatever their URLs are.

use super::{
    Place,
    end::{DONE, GIVEN_UP, Mark, Seal, State},
};
use crate::{Failure, FailureKind};

/// Both ends of a move, as they were named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<'a> {
    pub(super) from: &'a Place,
    pub(super) to: &'a Place,
}

/// What a move does first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It begins: the old ledger is checked, the new one marked, and the old one sealed.
    Anew,
    /// It was interrupted before the old ledger was sealed.
    AtSeal(Mark),
    /// It was interrupted later.
    At(Mark, Seal),
}

/// What giving up does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GivingUp {
    /// The mark of the new ledger, if it is to say so.
    pub(super) mark: Option<Mark>,
    /// The seal of the old one, if it has one.
    pub(super) seal: Option<Seal>,
}

impl Ends<'_> {
    /// `new` is none if there is no ledger yet.
    pub(super) fn start(self, old: &State, new: Option<&State>) -> Result<Start, Failure> {
        if new.is_some_and(|new| new.id == old.id) {
            return Err(invalid("this is one and the same ledger, or one is a copy of the other"));
        }
        match new.and_then(|new| Some((new, new.mark.as_ref()?))) {
            Some((new, mark)) => self.go_on(old, new, mark),
            None => self.begin(old, new),
        }
    }

    fn begin(self, old: &State, new: Option<&State>) -> Result<Start, Failure> {
        let to = self.to;
        match &old.seal {
            Some(Seal { why, has_moved: false, to: Some(_) }) => {
                Err(invalid(format!("{why}; there is nothing of it in {to}")))
            }
            Some(seal) => Err(invalid(seal.why.as_str())),
            None if !old.has_rows => {
                let from = self.from;
                Err(invalid(format!("{from} has no stock, holds or movements: nothing to move")))
            }
            None if new.is_some_and(|new| new.has_rows) => {
                Err(invalid(format!("{to} is not empty: name a new file or database")))
            }
            None => match new.and_then(|new| new.seal.as_ref()) {
                Some(seal) => Err(invalid(seal.why.as_str())),
                None => Ok(Start::Anew),
            },
        }
    }

    fn go_on(self, old: &State, new: &State, mark: &Mark) -> Result<Start, Failure> {
        let (to, start, empty) = (self.to, self.to.quoted(), self.how_to_empty());
        if mark.source != old.id {
            let label = &mark.label;
            return Err(invalid(format!("{to} is not empty: a shop moved in from {label}")));
        }
        match (mark.stage.as_str(), &old.seal) {
            (DONE, _) => Err(invalid(format!(
                "the shop has moved already: start the server with --ledger {start}"
            ))),
            (GIVEN_UP, _) => Err(invalid(self.given_up())),
            (_, None) if mark.is_first() => Ok(Start::AtSeal(mark.clone())),
            (_, None) => Err(invalid(format!(
                "{} is not sealed any more, and may have sold what is in {to}: {empty}",
                self.from
            ))),
            (_, Some(seal)) if seal.to == Some(new.id) => Ok(Start::At(mark.clone(), seal.clone())),
            (_, Some(seal)) => Err(invalid(seal.why.as_str())),
        }
    }

    pub(super) fn giving_up(self, old: &State, new: Option<&State>) -> Result<GivingUp, Failure> {
        let (from, to) = (self.from, self.to);
        let seal = old.seal.clone();
        let none = || Err(invalid(format!("no shop is moving from {from} to {to}")));
        match (new.and_then(|new| Some((new.id, new.mark.as_ref()?))), &seal) {
            (Some((_, mark)), _) if mark.source != old.id => none(),
            (Some((_, mark)), _) if mark.stage == DONE => Err(invalid(format!(
                "the shop has moved to {to}, which may have sold since. To go back is to move \
                 back, into a new file or database: stockhold migrate-ledger --from {} --to NEW",
                to.quoted()
            ))),
            (Some((id, _)), Some(seal)) if seal.to != Some(id) => Err(invalid(seal.why.as_str())),
            (Some((_, mark)), _) => Ok(GivingUp { mark: Some(mark.clone()), seal }),
            // What was there of the move is gone; but it never came so far that anybody sold it.
            (None, Some(Seal { to: Some(_), has_moved: false, .. })) => {
                Ok(GivingUp { mark: None, seal })
            }
            (None, Some(seal)) => Err(invalid(seal.why.as_str())),
            (None, None) => none(),
        }
    }

    /// Why the old ledger is sealed while the shop moves.
    pub(super) fn moving(self) -> String {
        let (to, go_on) = (self.to, self.command());
        format!(
            "this shop is moving to {to}: finish with `{go_on}`, or go back with `{go_on} --give-up`"
        )
    }

    /// Why it is sealed afterwards.
    pub(super) fn moved(self) -> String {
        let (to, start) = (self.to, self.to.quoted());
        format!("this shop has moved to {to}: start the server with --ledger {start}")
    }

    /// Why the new one is sealed.
    pub(super) fn not_complete(self) -> String {
        let (from, go_on) = (self.from, self.command());
        format!(
            "this ledger is not complete, a shop is moving in from {from}: finish with `{go_on}`"
        )
    }

    pub(super) fn given_up(self) -> String {
        let (to, empty) = (self.to, self.how_to_empty());
        format!("{to} has parts of a move that was given up: {empty}")
    }

    fn command(self) -> String {
        let [from, to] = [self.from, self.to].map(Place::quoted);
        format!("stockhold migrate-ledger --from {from} --to {to}")
    }

    fn how_to_empty(self) -> String {
        match self.to {
            Place::Sqlite(path) => format!("remove the file {}", path.display()),
            Place::Postgres(url) => {
                let (name, owner) = (url.database(), url.user().unwrap_or("ROLE"));
                format!("empty it: dropdb {name}; createdb --owner {owner} {name}")
            }
        }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const OLD: Uuid = Uuid::from_u128(1);
    const NEW: Uuid = Uuid::from_u128(2);
    const OTHER: Uuid = Uuid::from_u128(3);

    fn places() -> [Place; 2] {
        let url = "postgres://shop:secret@db/shop?sslmode=require&password=secret";
        [Place::Sqlite("/it's.db".into()), Place::Postgres(Box::new(url.parse().unwrap()))]
    }

    fn state(id: Uuid) -> State {
        State { id, has_rows: true, seal: None, mark: None }
    }

    fn sealed(to: Uuid, has_moved: bool) -> Option<Seal> {
        Some(Seal { why: "the reason".to_owned(), to: Some(to), has_moved })
    }

    fn mark(source: Uuid, stage: &str) -> Option<Mark> {
        Some(Mark::first(source, "there".to_owned()).at(stage, "7"))
    }

    fn start(old: &State, new: &State) -> Result<Start, String> {
        let [from, to] = &places();
        Ends { from, to }.start(old, Some(new)).map_err(|failure| failure.message)
    }

    fn giving_up(old: &State, new: Option<&State>) -> Result<GivingUp, String> {
        let [from, to] = &places();
        Ends { from, to }.giving_up(old, new).map_err(|failure| failure.message)
    }

    #[test]
    fn a_move_begins_with_a_shop_and_an_empty_place() {
        let [from, to] = &places();
        let (old, empty) = (state(OLD), State { has_rows: false, ..state(NEW) });
        assert_eq!(Ends { from, to }.start(&old, None).unwrap(), Start::Anew);
        assert_eq!(start(&old, &empty), Ok(Start::Anew));
        assert!(start(&old, &state(NEW)).unwrap_err().contains("is not empty"));
        assert!(start(&empty, &empty).unwrap_err().contains("one and the same"));
        let none = State { has_rows: false, ..state(OLD) };
        assert!(start(&none, &empty).unwrap_err().contains("nothing to move"));
    }

    #[test]
    fn a_move_goes_on_only_between_the_two_ledgers_that_it_began_with() {
        let old = State { seal: sealed(NEW, false), ..state(OLD) };
        let new = State { mark: mark(OLD, "holds"), ..state(NEW) };
        let at = Start::At(mark(OLD, "holds").unwrap(), sealed(NEW, false).unwrap());
        assert_eq!(start(&old, &new), Ok(at));
        let others = State { mark: mark(OTHER, "holds"), ..state(NEW) };
        assert!(start(&old, &others).unwrap_err().contains("a shop moved in from there"));
        let elsewhere = State { seal: sealed(OTHER, false), ..state(OLD) };
        assert_eq!(start(&elsewhere, &new).unwrap_err(), "the reason");
        let anew = State { has_rows: false, ..state(NEW) };
        assert!(start(&old, &anew).unwrap_err().starts_with("the reason; there is nothing of it"));
    }

    /// It may have sold what the other one has copied.
    #[test]
    fn a_ledger_that_was_unsealed_meanwhile_is_not_copied_on() {
        let new = State { mark: mark(OLD, "holds"), ..state(NEW) };
        let refused = start(&state(OLD), &new).unwrap_err();
        assert!(
            refused.ends_with("empty it: dropdb shop; createdb --owner shop shop"),
            "{refused}"
        );
        let first = Mark::first(OLD, String::new());
        let new = State { mark: Some(first.clone()), ..state(NEW) };
        assert_eq!(start(&state(OLD), &new), Ok(Start::AtSeal(first)), "nothing was copied");
    }

    #[test]
    fn a_move_is_given_up_until_it_is_done() {
        let old = State { seal: sealed(NEW, false), ..state(OLD) };
        let new = |stage| State { mark: mark(OLD, stage), ..state(NEW) };
        let given_up = GivingUp { mark: mark(OLD, "keys"), seal: sealed(NEW, false) };
        assert_eq!(giving_up(&old, Some(&new("keys"))), Ok(given_up));
        let refused = giving_up(&old, Some(&new(DONE))).unwrap_err();
        assert!(refused.contains("--from 'postgres://shop@db/shop?sslmode=require' --to NEW"));
        let elsewhere = State { seal: sealed(OTHER, false), ..state(OLD) };
        assert_eq!(giving_up(&elsewhere, Some(&new("keys"))).unwrap_err(), "the reason");
    }

    #[test]
    fn a_move_whose_target_is_lost_is_given_up_unless_it_was_done() {
        let moving = State { seal: sealed(NEW, false), ..state(OLD) };
        let given_up = GivingUp { mark: None, seal: sealed(NEW, false) };
        assert_eq!(giving_up(&moving, None), Ok(given_up.clone()));
        assert_eq!(giving_up(&moving, Some(&state(OTHER))), Ok(given_up));
        let moved = State { seal: sealed(NEW, true), ..state(OLD) };
        assert_eq!(giving_up(&moved, None).unwrap_err(), "the reason");
        assert!(giving_up(&state(OLD), None).unwrap_err().contains("no shop is moving"));
    }

    #[test]
    fn a_hint_can_be_pasted_and_tells_no_password() {
        let [from, to] = &places();
        let hint = Ends { from, to }.moving();
        let command = "`stockhold migrate-ledger --from 'sqlite:/it'\\''s.db' \
                       --to 'postgres://shop@db/shop?sslmode=require' --give-up`";
        assert!(hint.ends_with(command), "{hint}");
    }
}
