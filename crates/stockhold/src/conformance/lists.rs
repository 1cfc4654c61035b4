//! The laws of lists.

use std::{sync::Arc, time::Duration};

use stockhold_core::{
    Action, Basket, Command, HoldState, HoldView, ItemKey, Location, Movement, MovementKind, Owner,
    Place, Quantity, Reference, Sku, StockView,
};

use super::{Desk, Fixture, SECOND, ask};
use crate::ledger::{HoldQuery, Ledger, MovementQuery, StockQuery};

/// All holds that a query finds, page after page.
pub async fn listed_holds(ledger: &Arc<dyn Ledger>, query: &HoldQuery) -> Vec<HoldView> {
    let (mut query, mut all) = (query.clone(), Vec::new());
    loop {
        let page = ledger.holds(query.clone()).await.expect("the ledger answers");
        assert!(page.items.len() <= query.limit);
        all.extend(page.items);
        let Some(next) = page.next else { return all };
        assert!(query.before.is_none_or(|before| next < before), "the list goes on");
        query.before = Some(next);
    }
}

/// All stock items that a query finds, page after page.
pub async fn listed_items(ledger: &Arc<dyn Ledger>, query: &StockQuery) -> Vec<StockView> {
    let (mut query, mut all) = (query.clone(), Vec::new());
    loop {
        let page = ledger.items(query.clone()).await.expect("the ledger answers");
        assert!(page.items.len() <= query.limit);
        all.extend(page.items);
        let Some(next) = page.next else { return all };
        assert!(query.after.is_none_or(|after| next > after), "the list goes on");
        query.after = Some(next);
    }
}

/// All movements that a query finds, page after page, up to the present end.
pub async fn listed_movements(ledger: &Arc<dyn Ledger>, query: &MovementQuery) -> Vec<Movement> {
    let (mut query, mut all) = (query.clone(), Vec::new());
    loop {
        let page = ledger.movements(query.clone()).await.expect("the ledger answers");
        assert!(page.items.len() <= query.limit);
        all.extend(page.items);
        let next = page.next.expect("there is always a next");
        if next == query.after {
            return all;
        }
        assert!(next > query.after, "the list goes on");
        query.after = next;
    }
}

/// Page after page, each hold once.
pub async fn holds_come_newest_first(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let in_threes = HoldQuery { limit: 3, ..HoldQuery::default() };
    assert!(numbers(&desk, &in_threes).await.is_empty());
    desk.answers([ask::create("MUG", 100)]).await;
    desk.answers((1..=8).map(|n| ask::place(n, &[("MUG", 1)]))).await;
    desk.answers([ask::confirm(2), ask::release(5), ask::ship(2)]).await;
    assert_eq!(numbers(&desk, &in_threes).await, [8, 7, 6, 5, 4, 3, 2, 1]);
    let page = desk.ledger().holds(in_threes.clone()).await.expect("the ledger answers");
    assert_eq!((numbers_of(&page.items), page.next), (vec![8, 7, 6], Some(ask::id(6))));
    assert_eq!(page.items[2], desk.hold(6).await);
    // What is placed meanwhile is newer, and not on a later page.
    desk.answers([ask::place(9, &[("MUG", 1)])]).await;
    let rest = HoldQuery { before: page.next, ..in_threes };
    assert_eq!(numbers(&desk, &rest).await, [5, 4, 3, 2, 1]);
}

/// The state as it is now; a due hold is expired.
pub async fn holds_are_found_by_owner_and_state(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    desk.answers([ask::create("MUG", 100)]).await;
    let of = |owner: &str, n| {
        let owner = Owner::new(owner).expect("an owner");
        Command::new(Action::Place(Place { owner, ..ask::plain(n, &[("MUG", 1)]) }))
    };
    desk.answers([of("ann", 1), of("ben", 2), ask::place_for(5_000, 3, &[("MUG", 1)])]).await;
    desk.answers([of("ben", 4), of("ann", 5), ask::confirm(4), ask::revoke(5)]).await;
    let query = |owner: Option<&str>, state| HoldQuery {
        owner: owner.map(|owner| Owner::new(owner).expect("an owner")),
        state,
        limit: 1,
        ..HoldQuery::default()
    };
    assert_eq!(numbers(&desk, &query(Some("ann"), None)).await, [5, 3, 1]);
    assert!(numbers(&desk, &query(Some("nobody"), None)).await.is_empty());
    assert_eq!(numbers(&desk, &query(None, Some(HoldState::Active))).await, [3, 2, 1]);
    assert_eq!(numbers(&desk, &query(None, Some(HoldState::Confirmed))).await, [4]);
    assert!(numbers(&desk, &query(Some("ann"), Some(HoldState::Confirmed))).await.is_empty());
    desk.pass(5 * SECOND).await; // nobody has expired it
    assert_eq!(numbers(&desk, &query(Some("ann"), Some(HoldState::Active))).await, [1]);
    assert_eq!(numbers(&desk, &query(None, Some(HoldState::Expired))).await, [3]);
    desk.answers([ask::expire(3)]).await;
    assert_eq!(numbers(&desk, &query(None, Some(HoldState::Expired))).await, [3]);
}

/// At any location, and each once.
pub async fn active_holds_are_found_by_sku(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let north =
        ItemKey { location: Location::new("north").expect("a location"), ..ask::item("MUG") };
    let (item, on_hand) = (Arc::new(north.clone()), Some(ask::units(9)));
    let create = Command::new(Action::SetPolicy { item, on_hand, safety_stock: None });
    desk.answers([ask::create("MUG", 9), ask::create("TEE", 9), create]).await;
    let both = [(ask::item("MUG"), Quantity::ONE), (north.clone(), Quantity::ONE)];
    let only_north = [(north, Quantity::ONE)];
    let place = |n, lines: &[(ItemKey, Quantity)]| {
        let lines = Basket::new(lines.iter().cloned()).expect("a basket");
        Command::new(Action::Place(Place { lines, ..ask::plain(n, &[("MUG", 1)]) }))
    };
    desk.answers([place(1, &both), place(2, &only_north), ask::place(3, &[("TEE", 1)])]).await;
    desk.answers([ask::place(4, &[("MUG", 1), ("TEE", 1)]), ask::place(5, &[("MUG", 1)])]).await;
    desk.answers([ask::place_for(2_000, 6, &[("MUG", 1)]), ask::confirm(5)]).await;
    let of = |sku: &str| HoldQuery {
        sku: Sku::new(sku).ok(),
        state: Some(HoldState::Active),
        limit: 2,
        ..HoldQuery::default()
    };
    assert_eq!(numbers(&desk, &of("MUG")).await, [6, 4, 2, 1]);
    assert_eq!(numbers(&desk, &of("TEE")).await, [4, 3]);
    assert!(numbers(&desk, &of("NO-SUCH-THING")).await.is_empty());
    desk.pass(2 * SECOND).await;
    assert_eq!(numbers(&desk, &of("MUG")).await, [4, 2, 1]);
    let of_ann = HoldQuery { owner: Owner::new("ann").ok(), ..of("MUG") };
    assert_eq!(numbers(&desk, &of_ann).await, [4, 2, 1]);
    let of_ben = HoldQuery { owner: Owner::new("ben").ok(), ..of("MUG") };
    assert!(numbers(&desk, &of_ben).await.is_empty());
}

/// Page after page, each item once.
pub async fn items_come_in_the_order_of_their_bytes(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let skus = ["b", "B", "a b", "a-b", "Ä", "ä", "z", "Größe", "🧦", "\u{10ffff}", "aa", "a"];
    desk.answers(skus.map(|sku| ask::create(sku, 1))).await;
    let north = ItemKey { location: Location::new("Nord").expect("a location"), ..ask::item("a") };
    let (item, on_hand) = (Arc::new(north), None);
    desk.answers([Command::new(Action::SetPolicy { item, on_hand, safety_stock: None })]).await;
    let mut sorted: Vec<_> = skus.iter().map(|sku| format!("{sku}@default")).collect();
    sorted.push("a@Nord".to_owned());
    sorted.sort_unstable_by(|a, b| a.split('@').cmp(b.split('@')));
    for limit in [1, 2, 1_000] {
        let all = listed_items(desk.ledger(), &StockQuery { limit, ..StockQuery::default() }).await;
        let names: Vec<_> = all.iter().map(|view| view.item.key.to_string()).collect();
        assert_eq!(names, sorted);
    }
}

/// Any prefix, also one that ends a range of UTF-8.
pub async fn items_are_found_by_prefix(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let last = char::MAX.to_string();
    let beyond = format!("a{last}{last}z");
    let skus =
        ["TEE", "TEE-1", "TEE-2", "TEF", "TE", "tee", "a\u{7ff}x", "a\u{800}x", &beyond, &last];
    desk.answers(skus.map(|sku| ask::create(sku, 1))).await;
    let found = async |prefix: &str, after: Option<&str>| {
        let (prefix, after) = (prefix.to_owned(), after.map(ask::item));
        let all = listed_items(desk.ledger(), &StockQuery { prefix, after, limit: 1 }).await;
        all.iter().map(|view| view.item.key.sku.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("TEE", None).await, ["TEE", "TEE-1", "TEE-2"]);
    assert_eq!(found("TEE-", None).await, ["TEE-1", "TEE-2"]);
    assert_eq!(found("TEE", Some("TEE-1")).await, ["TEE-2"]);
    assert_eq!(found("TEE", Some("A")).await, ["TEE", "TEE-1", "TEE-2"]);
    assert_eq!(found("TEE", Some("TEF")).await, Vec::<String>::new());
    assert_eq!(found("a\u{7ff}", None).await, ["a\u{7ff}x"]);
    assert_eq!(found(&format!("a{last}"), None).await, [beyond.as_str()]);
    assert_eq!(found(&last, None).await, [last.as_str()]);
    assert_eq!(found("%", None).await, Vec::<String>::new());
    assert_eq!(found("T_E", None).await, Vec::<String>::new());
    assert_eq!(found("TEE-12", None).await, Vec::<String>::new());
}

/// A list says of an item what a look at it says.
pub async fn listed_items_know_their_next_deadline(fixture: &dyn Fixture) {
    let mut desk = Desk::open(fixture).await;
    desk.answers([ask::create("A", 9), ask::create("B", 9), ask::create("C", 9)]).await;
    let places = [(30_000, 1), (10_000, 2)].map(|(ms, n)| ask::place_for(ms, n, &[("A", 1)]));
    desk.answers(places).await;
    desk.answers([ask::place(3, &[("B", 2)]), ask::confirm(3)]).await;
    if fixture.durable() {
        desk.reopen().await;
        desk.answers([]).await;
    }
    for wait in [0, 15, 30] {
        desk.pass(wait * SECOND).await;
        let listed = listed_items(desk.ledger(), &StockQuery::default()).await;
        let looked_at = [desk.stock("A").await, desk.stock("B").await, desk.stock("C").await];
        assert_eq!(listed, looked_at);
    }
    desk.pass_silently(Duration::from_secs(60));
    desk.answers([ask::expire(1), ask::expire(2)]).await;
    let listed = listed_items(desk.ledger(), &StockQuery::default()).await;
    assert_eq!(listed[0], desk.stock("A").await);
}

/// Page after page, each movement once.
pub async fn movements_come_oldest_first(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let in_twos = MovementQuery { limit: 2, ..MovementQuery::default() };
    assert!(listed_movements(desk.ledger(), &in_twos).await.is_empty());
    desk.answers([ask::create("A", 10), ask::create("B", 5), ask::create("EMPTY", 0)]).await;
    let moves = [ask::keyed("1", ask::receive("A", 2)), ask::keyed("2", ask::adjust("B", -1))];
    desk.answers(moves).await;
    desk.answers([ask::place(1, &[("A", 3), ("B", 1)]), ask::confirm(1), ask::ship(1)]).await;
    desk.answers([ask::adjust("A", -1), ask::count("A", 1)]).await; // the first has no key
    let all = listed_movements(desk.ledger(), &in_twos).await;
    let told: Vec<_> = all
        .iter()
        .map(|m| (m.item.sku.as_str(), m.kind, m.delta.get(), m.on_hand_after.get()))
        .collect();
    let expected = [
        ("A", MovementKind::Create, 10, 10),
        ("B", MovementKind::Create, 5, 5),
        ("A", MovementKind::Receive, 2, 12),
        ("B", MovementKind::Adjust, -1, 4),
        ("A", MovementKind::Ship, -3, 9),
        ("B", MovementKind::Ship, -1, 3),
        ("A", MovementKind::Count, -8, 1),
    ];
    assert_eq!(told, expected);
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(all[2].reference.as_ref().map(Reference::as_str), Some("note-7"));
    let of_b = MovementQuery { sku: Sku::new("B").ok(), ..in_twos.clone() };
    let of_b = listed_movements(desk.ledger(), &of_b).await;
    assert_eq!(of_b, [all[1].clone(), all[3].clone(), all[5].clone()]);
    let of_nothing = MovementQuery { sku: Sku::new("NO-SUCH-THING").ok(), ..in_twos };
    assert!(listed_movements(desk.ledger(), &of_nothing).await.is_empty());
}

/// A reader at the end finds what comes next.
pub async fn movements_go_on_where_they_ended(fixture: &dyn Fixture) {
    let desk = Desk::open(fixture).await;
    let mut query = MovementQuery { sku: Sku::new("A").ok(), ..MovementQuery::default() };
    let mut read = async || {
        let page = desk.ledger().movements(query.clone()).await.expect("the ledger answers");
        query.after = page.next.expect("there is always a next");
        page.items.iter().map(|movement| movement.delta.get()).collect::<Vec<_>>()
    };
    assert_eq!(read().await, Vec::<i64>::new());
    desk.answers([ask::create("A", 1), ask::create("B", 2)]).await;
    assert_eq!(read().await, [1]);
    assert_eq!(read().await, Vec::<i64>::new());
    assert_eq!(read().await, Vec::<i64>::new());
    desk.answers([ask::count("B", 5)]).await;
    assert_eq!(read().await, Vec::<i64>::new());
    desk.answers([ask::count("A", 5), ask::count("B", 6)]).await;
    assert_eq!(read().await, [4]);
}

/// The numbers of the holds that a query finds.
async fn numbers(desk: &Desk<'_>, query: &HoldQuery) -> Vec<u64> {
    numbers_of(&listed_holds(desk.ledger(), query).await)
}

fn numbers_of(views: &[HoldView]) -> Vec<u64> {
    views.iter().map(|view| ask::number(view.hold.id)).collect()
}
