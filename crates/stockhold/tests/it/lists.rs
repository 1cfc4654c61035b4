//! Lists of more rows than a page may look at, and questions that make no sense.

use stockhold::{
    Engine, HoldState, Owner, Sku,
    conformance::{Desk, ask, listed_holds, listed_movements},
    ledger::{HoldQuery, MovementQuery, StockQuery},
};
use stockhold_core::{Action, Command, Place};

use crate::{fixture::Sqlite, shop::word};

/// Places holds so many at a time.
async fn holds(desk: &Desk<'_>, owner: &str, numbers: std::ops::RangeInclusive<u64>) {
    let place = |n| {
        let owner = Owner::new(owner).expect("an owner");
        Command::new(Action::Place(Place { owner, ..ask::plain(n, &[("MUG", 1)]) }))
    };
    desk.answers(numbers.map(place)).await;
}

#[tokio::test]
async fn a_page_looks_at_ten_thousand_holds_and_says_where_to_go_on() {
    let fixture = Sqlite::default();
    let desk = Desk::open(&fixture).await;
    desk.answers([ask::create("MUG", 100_000)]).await;
    holds(&desk, "rare", 1..=2).await;
    holds(&desk, "ann", 3..=20_005).await;
    let of_rare = HoldQuery { owner: Owner::new("rare").ok(), ..HoldQuery::default() };
    let page = desk.ledger().holds(of_rare.clone()).await.expect("it answers");
    assert_eq!((page.items, page.next), (vec![], Some(ask::id(10_006))));
    let found = listed_holds(desk.ledger(), &of_rare).await;
    assert_eq!(found.iter().map(|view| view.hold.id).collect::<Vec<_>>(), [ask::id(2), ask::id(1)]);
    // What is active is in memory: there is no such bound.
    let active = HoldQuery { state: Some(HoldState::Active), ..of_rare };
    let page = desk.ledger().holds(active).await.expect("it answers");
    assert_eq!((page.items.len(), page.next), (2, None));
}

#[tokio::test]
async fn a_page_looks_at_fifty_thousand_movements_and_says_where_to_go_on() {
    let fixture = Sqlite::default();
    let desk = Desk::open(&fixture).await;
    desk.answers([ask::create("MUG", 1)]).await;
    for _ in 0..6 {
        desk.answers((0..10_000).map(|n| ask::count("MUG", n))).await;
    }
    desk.answers([ask::create("TEE", 7)]).await;
    let of_tee = MovementQuery { sku: Sku::new("TEE").ok(), ..MovementQuery::default() };
    let page = desk.ledger().movements(of_tee.clone()).await.expect("it answers");
    assert_eq!((page.items, page.next), (vec![], Some(50_000)));
    let found = listed_movements(desk.ledger(), &of_tee).await;
    assert_eq!(found.iter().map(|m| m.delta.get()).collect::<Vec<_>>(), [7]);
}

/// R16.
#[tokio::test]
async fn a_damaged_hold_is_left_out_of_lists() {
    let fixture = Sqlite::default();
    let desk = Desk::open(&fixture).await;
    desk.answers([ask::create("MUG", 9)]).await;
    holds(&desk, "ann", 1..=3).await;
    desk.answers([ask::release(2)]).await;
    let shell = rusqlite::Connection::open(fixture.path()).expect("a shell");
    shell.execute("UPDATE transition SET step = 'ship'", []).expect("it is damaged");
    let listed = async || {
        let found = listed_holds(desk.ledger(), &HoldQuery::default()).await;
        found.iter().map(|view| ask::number(view.hold.id)).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [3, 1]);
    let unreadable = "UPDATE hold SET reference = char(7) WHERE id = ?1";
    shell.execute(unreadable, [ask::id(3).to_bytes()]).expect("it is damaged");
    assert_eq!(listed().await, [1]);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_invalid() {
    let engine = Engine::in_memory().expect("it starts");
    for limit in [0, 1_001] {
        let holds = HoldQuery { limit, ..HoldQuery::default() };
        assert_eq!(word(&engine.holds(holds).await), "invalid");
        let items = StockQuery { limit, ..StockQuery::default() };
        assert_eq!(word(&engine.items(items).await), "invalid");
        let movements = MovementQuery { limit, ..MovementQuery::default() };
        assert_eq!(word(&engine.movements(movements).await), "invalid");
    }
    let by_sku = HoldQuery { sku: Sku::new("MUG").ok(), ..HoldQuery::default() };
    assert_eq!(word(&engine.holds(by_sku).await), "invalid");
}
