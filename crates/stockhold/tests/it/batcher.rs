//! The lane: what waits shares the next transaction, and one bad command spoils nobody's day.

use std::sync::Arc;

use stockhold::{
    HoldId, PlaceRequest, Settings,
    fault::{Fault, Gate},
    ledger::Batch,
};
use stockhold_core::{Action, Command};
use tokio::task::JoinHandle;

use crate::{
    fixture::Kind,
    shop::{Shop, all, done, number_of, owner, request, settle, word},
};

on_each_ledger! { one_thread:
    what_arrives_during_a_batch_shares_the_next_in_order
    one_command_alone_waits_for_nobody
    a_batch_has_a_largest_size
    confirms_and_places_each_have_their_share_of_a_batch
    a_command_taken_back_before_its_batch_is_never_applied
    a_command_in_its_batch_runs_to_its_end_without_its_caller
    a_poisoned_command_fails_alone_and_is_found_in_few_steps
    two_poisoned_commands_fail_alone
    a_refused_batch_without_callers_is_still_taken_apart
}

/// Keeps the ledger busy with a batch of its own until the gate is opened. What is asked meanwhile
/// waits.
pub(crate) async fn busy(shop: &Shop) -> (Gate, JoinHandle<HoldId>) {
    let gate = Gate::closed();
    shop.ledger.take_seen();
    shop.ledger.next(Fault::Delayed(gate.clone()));
    let first = shop.meanwhile(|shop| async move { shop.hold("first", &[("MUG", 1)]).await });
    shop.seen(1).await;
    (gate, first)
}

fn owners(batch: &Batch) -> Vec<&str> {
    batch.commands.iter().filter_map(owner).collect()
}

fn is_confirm(command: &&Command) -> bool {
    matches!(command.action, Action::Confirm { .. })
}

async fn what_arrives_during_a_batch_shares_the_next_in_order(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1_000).await;
    let (gate, first) = busy(&shop).await;
    let place = |n: usize| {
        shop.meanwhile(move |shop| async move { shop.hold(&format!("{n}"), &[("MUG", 1)]).await })
    };
    let waiting: Vec<_> = (0..200).map(place).collect();
    settle().await;
    assert_eq!(shop.ledger.seen(), 1); // nothing is begun while a batch is under way
    gate.open();
    let ids = all(waiting).await;
    let seen = shop.ledger.take_seen();
    let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(seen.iter().map(|batch| owners(batch).len()).collect::<Vec<_>>(), [1, 200]);
    assert_eq!(owners(&seen[1]), expected);
    assert!(ids.is_sorted() && done(first).await < ids[0]);
    assert_eq!(shop.units("MUG").await, [1_000, 201, 0, 799]);
    shop.finish().await;
}

async fn one_command_alone_waits_for_nobody(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 10).await; // no time passes: no timer is waited for
    for n in 1..=10 {
        shop.hold("ann", &[("MUG", 1)]).await;
        assert_eq!(shop.ledger.seen(), 1 + n);
    }
    shop.finish().await;
}

async fn a_batch_has_a_largest_size(kind: Kind) {
    for (settings, batches) in [
        (Settings { batch_commands: 40, ..Settings::default() }, vec![1, 40, 40, 20]),
        // A place of one line counts as 416 bytes.
        (Settings { batch_bytes: 416 * 60, ..Settings::default() }, vec![1, 60, 40]),
    ] {
        let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
        shop.create("MUG", 1_000).await;
        let (gate, _first) = busy(&shop).await;
        let place = |_| shop.meanwhile(|shop| async move { shop.hold("x", &[("MUG", 1)]).await });
        let waiting: Vec<_> = (0..100).map(place).collect();
        settle().await;
        gate.open();
        all(waiting).await;
        let seen = shop.ledger.take_seen();
        assert_eq!(seen.iter().map(|batch| batch.commands.len()).collect::<Vec<_>>(), batches);
        shop.finish().await;
    }
}

async fn confirms_and_places_each_have_their_share_of_a_batch(kind: Kind) {
    const PLACES: usize = 3_000;
    let settings = Settings { lanes: 1, batch_commands: 300, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 10_000).await;
    let hold = |shop: Shop, _| async move { shop.hold("x", &[("MUG", 1)]).await };
    let holds = shop.at_once(250, hold).await;
    let (gate, _first) = busy(&shop).await;
    let place = |_| shop.meanwhile(|shop| async move { shop.hold("x", &[("MUG", 1)]).await });
    let places: Vec<_> = (0..PLACES).map(place).collect();
    settle().await;
    let confirm = |id| shop.meanwhile(move |shop| async move { shop.confirm(id).await });
    let confirms: Vec<_> = holds.into_iter().map(confirm).collect();
    settle().await;
    gate.open();
    assert_eq!(number_of("ok", &all(confirms).await), 250);
    assert_eq!(all(places).await.len(), PLACES);
    let confirms = |batch: &Arc<Batch>| batch.commands.iter().filter(is_confirm).count();
    let seen = shop.ledger.take_seen();
    let shares: Vec<_> = seen.iter().map(|b| (confirms(b), b.commands.len())).take(4).collect();
    // A third for each sort that waits; what is left goes to confirms first.
    assert_eq!(shares, [(0, 1), (200, 300), (50, 300), (0, 300)]);
    shop.finish().await;
}

async fn a_command_taken_back_before_its_batch_is_never_applied(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 10).await;
    let (gate, first) = busy(&shop).await;
    let gone = shop.meanwhile(|shop| async move { shop.hold("gone", &[("MUG", 1)]).await });
    let stays = shop.meanwhile(|shop| async move { shop.hold("stays", &[("MUG", 1)]).await });
    settle().await;
    gone.abort();
    assert!(gone.await.expect_err("it fails").is_cancelled());
    gate.open();
    all(vec![first, stays]).await;
    let seen = shop.ledger.take_seen();
    assert_eq!(seen.iter().flat_map(|b| owners(b)).collect::<Vec<_>>(), ["first", "stays"]);
    assert_eq!(shop.units("MUG").await, [10, 2, 0, 8]);
    shop.finish().await;
}

async fn a_command_in_its_batch_runs_to_its_end_without_its_caller(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 10).await;
    let (gate, first) = busy(&shop).await;
    first.abort();
    assert!(first.await.expect_err("it fails").is_cancelled());
    gate.open();
    shop.hold("next", &[("MUG", 1)]).await;
    assert_eq!(shop.units("MUG").await, [10, 2, 0, 8]);
    shop.finish().await;
}

/// Asks for 1,000 holds in one batch and gives the answers; the holds of `bad` are poisoned.
async fn a_batch_with(shop: &Shop, bad: &[usize]) -> Vec<Result<HoldId, &'static str>> {
    let (gate, first) = busy(shop).await;
    shop.ledger.poison(|command| owner(command) == Some("poison"));
    let place = |n: usize| {
        let who = if bad.contains(&n) { "poison".to_owned() } else { n.to_string() };
        let place: PlaceRequest = request(&who, &[("MUG", 1)]);
        shop.meanwhile(|shop| async move {
            let placed = shop.engine.place(place).await;
            placed.map(|placed| placed.hold.hold.id).map_err(|e| word::<()>(&Err(e)))
        })
    };
    let waiting: Vec<_> = (0..1_000).map(place).collect();
    settle().await;
    gate.open();
    done(first).await;
    let answers = all(waiting).await;
    shop.ledger.heal();
    answers
}

/// R16.
async fn a_poisoned_command_fails_alone_and_is_found_in_few_steps(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 10_000).await;
    for (held, bad) in [(0, 0), (1_000, 637), (2_000, 999)] {
        let answers = a_batch_with(&shop, &[bad]).await;
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_ok(), n != bad, "{n}");
        }
        assert_eq!(answers[bad], Err("internal"));
        let ids: Vec<_> = answers.into_iter().flatten().collect();
        assert!(ids.is_sorted());
        let seen = shop.ledger.take_seen();
        // One batch, and two halves for each of the ten times that 1,000 can be halved.
        assert!((12..=2 + 2 * 10).contains(&seen.len()), "{} batches", seen.len());
        assert_eq!(seen[1].commands.len(), 1_000);
        let healthy = seen.iter().skip(1).filter(|b| !owners(b).contains(&"poison"));
        let applied: Vec<_> = healthy.flat_map(|b| owners(b)).collect();
        let expected: Vec<_> = (0..1_000).filter(|n| *n != bad).map(|n| n.to_string()).collect();
        assert_eq!(applied, expected); // each once, and in order
        let held = held + 1_000;
        assert_eq!(shop.units("MUG").await, [10_000, held, 0, 10_000 - held]);
        // The next batch is one batch again.
        let next = shop.hold("next", &[("MUG", 1)]).await;
        assert_eq!(shop.ledger.take_seen().len(), 1);
        shop.release(next).await.expect("it is released");
    }
    shop.finish().await;
}

async fn two_poisoned_commands_fail_alone(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 10_000).await;
    let answers = a_batch_with(&shop, &[499, 500]).await;
    let bad: Vec<_> = (0..1_000).filter(|n| answers[*n].is_err()).collect();
    assert_eq!(bad, [499, 500]);
    assert_eq!(shop.units("MUG").await, [10_000, 999, 0, 9_001]);
    shop.finish().await;
}

/// Its callers were told that it takes too long; what can be done of it is done anyway.
async fn a_refused_batch_without_callers_is_still_taken_apart(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 100).await;
    let (gate, _first) = busy(&shop).await;
    let second = Gate::closed();
    shop.ledger.next(Fault::Delayed(second.clone()));
    shop.ledger.poison(|command| owner(command) == Some("5"));
    let place = |n: usize| {
        shop.meanwhile(move |shop| async move { shop.place(&format!("{n}"), &[("MUG", 1)]).await })
    };
    let waiting: Vec<_> = (0..10).map(place).collect();
    settle().await;
    gate.open();
    shop.seen(2).await;
    settle().await;
    shop.clock.advance(Settings::default().command_deadline);
    assert_eq!(number_of("unavailable", &all(waiting).await), 10);
    second.open();
    shop.hold("next", &[("MUG", 1)]).await;
    assert_eq!(shop.units("MUG").await, [100, 11, 0, 89]);
    shop.finish().await;
}
