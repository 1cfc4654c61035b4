//! The race that most caches lose, a million times: a load ends after what it has read was invalidated.

use std::thread;

use super::*;

/// A writer, a reader and somebody who keeps what he finds, of a few keys, as fast as they can. In how many of a million
/// looks there was a value from before an invalidation that had been acknowledged, or was kept.
fn stale_in_a_million(shelf: &Shelf<u64>) -> usize {
    const KEYS: usize = 8;
    const ROUNDS: usize = 1_000_000;
    let source: [AtomicU64; KEYS] = Default::default();
    let names: [Name; KEYS] = std::array::from_fn(|n| Name::from([u8::try_from(n).unwrap()]));
    let (is_over, stale) = (AtomicBool::new(false), AtomicUsize::new(0));
    let plan = Plan { begun: Duration::ZERO, life: 0, is_straight: false, is_alone: false };
    let load = |n: usize| {
        if shelf.get(&names[n]).is_some() {
            return;
        }
        if let Boarding::Pilot(flight) = shelf.board(&names[n], plan, |_| true) {
            let number = source[n].load(Ordering::SeqCst);
            if number.is_multiple_of(64) {
                thread::yield_now();
            }
            shelf.land(&names[n], &flight, Ok(Arc::new(entry(number))));
        }
    };
    let kept: [Mutex<Option<Kept<u64>>>; KEYS] = Default::default();
    let keep = |n: usize| {
        let mut kept = kept[n].lock().unwrap();
        if !kept.as_ref().is_some_and(|kept| shelf.has(kept)) {
            *kept = shelf.keep_since(shelf.turn(&names[n]), &names[n]);
        }
    };
    let write = |n: usize| {
        // All that was written until now was acknowledged.
        let number = source[n].load(Ordering::SeqCst);
        let is_old = |kept: &Kept<u64>| kept.entry.version < number && shelf.has(kept);
        if shelf.get(&names[n]).is_some_and(|entry| entry.version < number)
            || kept[n].lock().unwrap().as_ref().is_some_and(is_old)
        {
            stale.fetch_add(1, Ordering::SeqCst);
        }
        source[n].store(number + 1, Ordering::SeqCst);
        shelf.invalidate(&names[n]);
    };
    thread::scope(|threads| {
        threads.spawn(|| {
            (0..ROUNDS).for_each(|round| write(round % KEYS));
            is_over.store(true, Ordering::SeqCst);
        });
        threads.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                (0..KEYS).for_each(load);
            }
        });
        threads.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                (0..KEYS).for_each(keep);
            }
        });
    });
    stale.into_inner()
}

/// What was loaded.
pub(super) fn entry(number: u64) -> Entry<u64> {
    Entry {
        value: Some(number),
        version: number,
        as_of: Timestamp::default(),
        since: Duration::ZERO,
        confirmed: Confirmed::default(),
        stored: Duration::ZERO,
        fresh_until: Duration::MAX,
        cost: Duration::ZERO,
        life: 0,
        weight: 8,
        origin: Origin::Source,
        is_told: true,
        is_outdated: false,
    }
}

#[test]
fn no_load_undoes_an_invalidation_in_a_million_rounds() {
    let shelf = Shelf::new(1 << 20, SOON);
    assert_eq!(stale_in_a_million(&shelf), 0);
    assert!(shelf.poisoned() > 0);
}

#[test]
fn without_the_mark_loads_undo_invalidations() {
    assert!(stale_in_a_million(&Shelf::without_poison(1 << 20, SOON)) > 0);
}
