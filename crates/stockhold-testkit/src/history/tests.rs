//! Planted lies are found, and honest shops are believed.

use super::*;

mod honest;

const SECOND: u64 = 1_000_000_000;

/// A history that is told line by line. Times are seconds.
#[derive(Default)]
struct Told {
    events: Vec<Event>,
    ledger: Ledger,
}

impl Told {
    /// So many mugs, and an account of them that adds up as long as nothing is sold.
    fn mugs(units: i64) -> Self {
        let mut told = Self::default();
        told.ledger.supply.insert("MUG".to_owned(), units);
        told
    }

    fn event(mut self, op: Op, asked: u64, answered: u64, result: Outcome) -> Self {
        let (t_invoke, t_return) = (asked * SECOND, answered * SECOND);
        let id = ("test".to_owned(), self.events.len() as u64);
        let (key, lines) = (None, Vec::new());
        self.events.push(Event { id, op, key, lines, t_invoke, t_return, result });
        self
    }

    /// A hold that lives for 30 s after it was asked for.
    fn placed(self, hold: &str, units: i64, asked: u64, answered: u64) -> Self {
        let hold = Some(hold.to_owned());
        let granted = Granted { hold, live_ms: Some(30_000), ..Granted::default() };
        self.event(place(), asked, answered, Outcome::Ok(granted)).of(units)
    }

    fn confirmed(self, hold: &str, asked: u64, answered: u64) -> Self {
        let hold = hold.to_owned();
        self.event(Op::Confirm { hold }, asked, answered, done())
    }

    fn released(self, hold: &str, asked: u64, answered: u64) -> Self {
        let hold = hold.to_owned();
        self.event(Op::Release { hold }, asked, answered, done())
    }

    fn acquired(self, fence: Fence, asked: u64, answered: u64) -> Self {
        let granted = Granted { live_ms: Some(30_000), fence: Some(fence), ..Granted::default() };
        self.event(Op::Acquire { lock: lock() }, asked, answered, Outcome::Ok(granted))
    }

    /// The last event has these units of mugs.
    fn of(mut self, units: i64) -> Self {
        self.events.last_mut().unwrap().lines = vec![Line::new("MUG", units)];
        self
    }

    /// The last event has this key.
    fn under(mut self, key: &str) -> Self {
        self.events.last_mut().unwrap().key = Some(key.to_owned());
        self
    }

    /// The ledger has sold it.
    fn sold(mut self, hold: &str, units: i64) -> Self {
        let (hold, lines) = (hold.to_owned(), vec![Line::new("MUG", units)]);
        self.ledger.sales.push(Sale { hold, lines, ..Sale::default() });
        self
    }

    /// The rules that were broken.
    #[track_caller]
    fn breaks(self, expected: &[&str]) -> Vec<Violation> {
        let found = History::new(self.events).check(&self.ledger, Rest::Busy);
        let mut rules: Vec<_> = found.iter().map(Violation::rule).collect();
        rules.dedup();
        assert_eq!(rules, expected, "{found:#?}");
        found
    }
}

fn place() -> Op {
    Op::Place { owner: "ann".to_owned(), ttl_ms: 30_000, replaces: None }
}

fn done() -> Outcome {
    Outcome::Ok(Granted::default())
}

fn lock() -> String {
    "till".to_owned()
}

fn refused(code: &str) -> Outcome {
    Outcome::Refused(code.to_owned())
}

fn confirm(hold: &str) -> Op {
    Op::Confirm { hold: hold.to_owned() }
}

#[test]
fn a_planted_oversell_of_holds_is_found() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).placed("b", 2, 2, 3);
    let found = told.breaks(&["C2"]);
    let text = "C2: at 3000000000 ns 4 of MUG were promised; there were 3: a, b";
    assert_eq!(found[0].to_string(), text);
}

#[test]
fn a_hold_that_may_have_expired_oversells_nothing() {
    Told::mugs(3).placed("a", 2, 0, 1).placed("b", 2, 29, 30).breaks(&[]);
    Told::mugs(3).placed("a", 2, 0, 1).placed("b", 2, 28, 29).breaks(&["C2"]);
}

#[test]
fn a_hold_that_was_being_released_oversells_nothing() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).placed("b", 2, 2, 4);
    told.event(Op::Release { hold: "a".to_owned() }, 3, 9, Outcome::Unknown).breaks(&[]);
}

#[test]
fn a_hold_that_was_extended_lives_on() {
    let extend = |told: Told, live_ms| {
        let granted = Granted { live_ms, ..Granted::default() };
        let op = Op::Extend { hold: "a".to_owned(), ttl_ms: 30_000 };
        told.event(op, 20, 21, Outcome::Ok(granted))
    };
    let told = extend(Told::mugs(3).placed("a", 2, 0, 1), Some(30_000));
    told.placed("b", 2, 40, 41).breaks(&["C2"]);
    let told = extend(Told::mugs(3).placed("a", 2, 0, 1), Some(15_000));
    told.placed("b", 2, 40, 41).breaks(&[]);
}

#[test]
fn a_planted_oversell_of_sales_is_found_long_after_the_holds() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3).sold("a", 2);
    let told = told.placed("b", 2, 100, 101).confirmed("b", 102, 103).sold("b", 2);
    told.breaks(&["C1", "C2"]);
}

#[test]
fn units_that_came_may_be_sold() {
    let told = Told::mugs(3).placed("a", 3, 0, 1).event(Op::Receive, 2, 9, Outcome::Unknown).of(2);
    told.placed("b", 2, 2, 3).breaks(&[]);
    let told = Told::mugs(3).placed("a", 3, 0, 1);
    told.event(Op::Receive, 2, 9, refused("not_found")).of(2).placed("b", 2, 2, 3).breaks(&["C2"]);
}

#[test]
fn units_that_came_once_count_once() {
    let told = Told::mugs(3).placed("a", 3, 0, 1);
    let told = told.event(Op::Receive, 2, 3, Outcome::Unknown).of(2).under("delivery");
    let told = told.event(Op::Receive, 4, 5, done()).of(2).under("delivery");
    told.placed("b", 3, 6, 7).breaks(&["C2"]);
}

#[test]
fn a_planted_lost_confirm_is_found() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3);
    let found = told.breaks(&["C1"]);
    assert_eq!(found, [Violation::LostConfirm { hold: "a".to_owned(), answered_at: 3 * SECOND }]);
}

#[test]
fn a_planted_phantom_sale_is_found() {
    Told::mugs(3).placed("a", 2, 0, 1).sold("a", 2).breaks(&["C1"]);
    let told = Told::mugs(3).placed("a", 2, 0, 1).sold("a", 2);
    told.event(confirm("a"), 2, 3, refused("overloaded")).breaks(&["C1"]);
    let told = Told::mugs(3).placed("a", 2, 0, 1).sold("a", 2);
    told.event(confirm("a"), 2, 3, Outcome::Unknown).breaks(&[]);
}

#[test]
fn a_planted_sale_of_other_quantities_is_found() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3).sold("a", 1);
    let found = told.breaks(&["C1", "C5"]);
    assert!(matches!(&found[0], Violation::WrongSale { answered: 2, sold: 1, .. }), "{found:?}");
    let told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3).of(1).sold("a", 1);
    told.breaks(&[]);
}

#[test]
fn a_planted_broken_promise_is_found() {
    for code in ["hold_expired", "not_found", "already_released"] {
        let told = Told::mugs(3).placed("a", 2, 0, 1);
        let found = told.event(confirm("a"), 2, 30, refused(code)).breaks(&["C3"]);
        assert!(found[0].to_string().contains(code), "{found:?}");
    }
}

#[test]
fn a_refusal_after_the_deadline_or_after_another_end_breaks_no_promise() {
    let told = Told::mugs(3).placed("a", 2, 0, 1);
    told.event(confirm("a"), 2, 31, refused("hold_expired")).breaks(&[]);
    let told = Told::mugs(3).placed("a", 2, 0, 1).released("a", 3, 4);
    told.event(confirm("a"), 2, 5, refused("already_released")).breaks(&[]);
    let told = Told::mugs(3).placed("a", 2, 0, 1);
    told.event(confirm("a"), 2, 3, refused("overloaded")).breaks(&[]);
}

#[test]
fn holds_live_for_less_where_clocks_may_differ() {
    let told = Told::mugs(3).placed("a", 2, 0, 1);
    let told = told.event(confirm("a"), 2, 29, refused("hold_expired"));
    let history = History::new(told.events);
    assert_eq!(history.check(&told.ledger, Rest::Busy).len(), 1);
    assert_eq!(history.with_drift(2_000).check(&told.ledger, Rest::Busy), []);
}

#[test]
fn a_planted_change_of_the_answer_to_a_key_is_found() {
    let told = Told::mugs(9).placed("a", 2, 0, 1).under("k").placed("b", 2, 2, 3).under("k");
    let found = told.breaks(&["C4"]);
    assert!(matches!(&found[0], Violation::ChangedAnswer { .. }), "{found:?}");
    Told::mugs(9).placed("a", 2, 0, 1).under("k").placed("a", 2, 2, 3).under("k").breaks(&[]);
}

#[test]
fn a_key_that_is_taken_with_another_request_is_found() {
    let told = Told::mugs(9).placed("a", 2, 0, 1).under("k");
    let found = told.placed("a", 3, 2, 3).under("k").breaks(&["C4"]);
    assert!(matches!(&found[0], Violation::KeyReused { .. }), "{found:?}");
    let told = Told::mugs(9).placed("a", 2, 0, 1).under("k");
    let reused = refused("idempotency_key_reused");
    told.event(place(), 2, 3, reused).of(3).under("k").breaks(&[]);
}

#[test]
fn a_key_that_is_refused_with_the_same_request_is_found() {
    let told = Told::mugs(9).placed("a", 2, 0, 1).under("k");
    let reused = refused("idempotency_key_reused");
    told.event(place(), 2, 3, reused).of(2).under("k").breaks(&["C4"]);
}

#[test]
fn a_planted_second_sale_of_a_key_is_found() {
    let told = Told::mugs(9).event(confirm("a"), 0, 1, Outcome::Unknown);
    let mut told = told.event(confirm("b"), 0, 1, Outcome::Unknown).sold("a", 1).sold("b", 1);
    told.ledger.sales.iter_mut().for_each(|sale| sale.key = Some("k".to_owned()));
    told.breaks(&["C4"]);
}

#[test]
fn a_planted_second_end_of_a_hold_is_found() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3).sold("a", 2);
    told.released("a", 4, 5).breaks(&["C5"]);
    let told = Told::mugs(3).placed("a", 2, 0, 1).released("a", 2, 3).sold("a", 2);
    told.event(confirm("a"), 4, 5, Outcome::Unknown).breaks(&["C5"]);
}

#[test]
fn an_expired_hold_that_is_released_and_sold_again_has_one_end() {
    let told = Told::mugs(3).placed("a", 2, 0, 1);
    let expired = Granted { state: Some("expired".to_owned()), ..Granted::default() };
    let told = told.event(Op::Release { hold: "a".to_owned() }, 40, 41, Outcome::Ok(expired));
    told.confirmed("a", 42, 43).sold("a", 2).breaks(&[]);
}

/// Mugs of which nothing is held and two are sold.
fn account() -> Told {
    let mut told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3).sold("a", 2);
    let item = "MUG".to_owned();
    told.ledger.items =
        vec![Item { item, on_hand: 3, allocated: 2, available: 1, ..Item::default() }];
    told
}

#[test]
fn a_planted_leak_is_found() {
    account().breaks(&[]);
    let mut told = account();
    (told.ledger.items[0].held, told.ledger.items[0].available) = (1, 0);
    let found = told.breaks(&["C6"]);
    assert_eq!(found, [Violation::Leak { item: "MUG".to_owned(), held: 1, live: 0 }]);
}

#[test]
fn a_hold_that_lives_is_no_leak_until_all_is_settled() {
    let mut told = account();
    (told.ledger.items[0].held, told.ledger.items[0].available) = (1, 0);
    let live = Sale { hold: "b".to_owned(), lines: vec![Line::new("MUG", 1)], ..Sale::default() };
    told.ledger.live.push(live);
    let history = History::new(told.events);
    assert_eq!(history.check(&told.ledger, Rest::Busy), []);
    let found = history.check(&told.ledger, Rest::Settled);
    assert!(matches!(found[..], [Violation::NotSettled { held: 1, .. }]), "{found:?}");
}

#[test]
fn units_that_appear_or_vanish_are_found() {
    let changes: [fn(&mut Item); 3] =
        [|item| item.available = 2, |item| item.allocated = 1, |item| item.on_hand = 4];
    for change in changes {
        let mut told = account();
        change(&mut told.ledger.items[0]);
        told.breaks(&["C6"]);
    }
}

#[test]
fn a_planted_double_grant_of_a_lock_is_found() {
    let told = Told::default().acquired((1, 1), 0, 1).acquired((1, 2), 2, 3);
    let found = told.breaks(&["C9"]);
    let text = "C9: at 3000000000 ns till was held with the fences [(1, 1), (1, 2)]";
    assert_eq!(found[0].to_string(), text);
    Told::default().acquired((1, 1), 0, 1).acquired((1, 2), 30, 31).breaks(&[]);
}

#[test]
fn a_lock_is_free_from_when_its_end_was_asked_whatever_a_renewal_says() {
    let (lock, fence) = (lock(), (1, 1));
    let told = Told::default().acquired(fence, 0, 1);
    let told = told.event(Op::Unlock { lock: lock.clone(), fence }, 2, 9, Outcome::Unknown);
    let granted = Granted { live_ms: Some(30_000), ..Granted::default() };
    let told = told.event(Op::Renew { lock, fence }, 2, 3, Outcome::Ok(granted));
    told.acquired((1, 2), 3, 4).breaks(&[]);
}

#[test]
fn a_renewed_lock_is_held_for_longer() {
    let (lock, fence) = (lock(), (1, 1));
    let granted = Granted { live_ms: Some(30_000), ..Granted::default() };
    let told = Told::default().acquired(fence, 0, 1);
    let told = told.event(Op::Renew { lock, fence }, 20, 21, Outcome::Ok(granted));
    told.acquired((1, 2), 40, 41).breaks(&["C9"]);
}

#[test]
fn a_planted_fence_that_does_not_rise_is_found() {
    for second in [(1, 2), (1, 1), (0, 9)] {
        Told::default().acquired((1, 2), 0, 1).acquired(second, 50, 51).breaks(&["C9"]);
    }
    Told::default().acquired((1, 2), 0, 1).acquired((2, 0), 50, 51).breaks(&[]);
}

#[test]
fn a_resource_that_takes_a_stale_fence_is_found() {
    let used = |told: Told, fence, at| told.event(Op::Use { lock: lock(), fence }, at, at, done());
    let told = used(used(Told::default(), (1, 2), 1), (1, 2), 2);
    used(told, (1, 1), 3).breaks(&["C9"]);
    used(used(Told::default(), (1, 1), 1), (1, 2), 2).breaks(&[]);
}

#[test]
#[should_panic(expected = "1 violations:\nC1: the confirm of a was answered at")]
fn a_test_ends_with_all_that_was_found() {
    let told = Told::mugs(3).placed("a", 2, 0, 1).confirmed("a", 2, 3);
    History::new(told.events).expect_clean(&told.ledger, Rest::Busy);
}

#[test]
fn what_several_processes_wrote_is_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["one", "two"].map(|name| folder.path().join(name));
    let recorders =
        ["one", "two"].map(|name| Recorder::to_file(name, &folder.path().join(name)).unwrap());
    let ask = |recorder: usize| recorders[recorder].ask(confirm("a"), Some("k"), Vec::new());
    ask(0).ok(Granted::default());
    ask(1).refused("hold_expired");
    drop(ask(0));
    let history = History::read(&paths).unwrap();
    let results: Vec<_> = history.events().iter().map(|event| event.result.clone()).collect();
    assert_eq!(results, [done(), refused("hold_expired"), Outcome::Unknown]);
    assert_eq!(history.events()[2].t_return, u64::MAX);
    let times: Vec<_> = history.events().iter().map(|event| event.t_invoke).collect();
    assert!(times.is_sorted() && times[0] > 0);

    let again = folder.path().join("again");
    history.write(std::fs::File::create(&again).unwrap()).unwrap();
    assert_eq!(History::read([again]).unwrap(), history);
}

#[test]
fn half_a_line_of_a_process_that_was_killed_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one");
    let recorder = Recorder::to_file("one", &path).unwrap();
    recorder.ask(Op::Receive, None, vec![Line::new("MUG", 1)]).ok(Granted::default());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let history = History::read([&path]).unwrap();
    assert_eq!(history.events().len(), 1);
    assert_eq!(history.events()[0].result, Outcome::Unknown);
}
