//! One process without Redis.

use super::*;

#[tokio::test]
async fn a_value_is_loaded_once_and_then_there() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Source));
    for _ in 0..10 {
        assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::L1));
    }
    assert_eq!(
        (source.loads(), cache.reads()),
        (1, [("l1", 10), ("l2", 0), ("source", 1), ("stale", 0)])
    );
}

#[tokio::test]
async fn that_there_is_nothing_is_remembered_as_well() {
    let source = Source::with(&[]);
    let cache = alone(&source);
    assert_eq!(value(&cache, "HAT").await, (None, Origin::Source));
    assert_eq!(value(&cache, "HAT").await, (None, Origin::L1));
}

#[tokio::test]
async fn a_thousand_who_want_the_same_are_one_load() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let asking: Vec<_> = (0..1_000).map(|_| reading(&cache, "MUG")).collect();
    source.has_begun(1).await;
    source.let_end(1);
    for asked in asking {
        assert_eq!(asked.await.unwrap().0, Some(5));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn who_stops_waiting_does_not_stop_the_load_of_others() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let first = reading(&cache, "MUG");
    source.has_begun(1).await;
    let second = reading(&cache, "MUG");
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    source.let_end(1);
    assert_eq!(second.await.unwrap().0, Some(5));
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn what_was_loaded_before_an_invalidation_is_not_kept() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let before = reading(&cache, "MUG");
    source.has_begun(1).await;
    source.set("MUG", 6);
    assert_eq!(cache.invalidate(&"MUG", 6).await, Invalidated::Applied);
    let after = reading(&cache, "MUG");
    source.has_begun(2).await;
    source.let_end(2);
    // It began before.
    assert_eq!(before.await.unwrap().0, Some(5));
    assert_eq!(after.await.unwrap().0, Some(6));
    assert_eq!(value(&cache, "MUG").await, (Some(6), Origin::L1));
    assert_eq!(cache.health().poisoned, 1);
}

#[tokio::test]
async fn a_panic_of_the_loader_is_an_error_for_who_waits_and_nobody_else() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    source.panics.store(true, Ordering::SeqCst);
    let failure = cache.get(&"MUG").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Internal);
    source.panics.store(false, Ordering::SeqCst);
    assert_eq!(value(&cache, "MUG").await.0, Some(5));
}

#[tokio::test]
async fn what_fails_is_answered_by_what_was_there_if_that_may_be() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    assert_eq!(value(&cache, "MUG").await.0, Some(5));
    source.fails.store(true, Ordering::SeqCst);
    cache.expire(&"MUG");
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Stale(Reason::Failed)));
    // Not for who needs it to be young,
    let failure = cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap_err();
    assert_eq!(failure.message, "the source is away");
    // and never after it was invalidated.
    cache.invalidate(&"MUG", 6).await;
    assert!(cache.get(&"MUG").await.is_err());
}

#[tokio::test]
async fn a_source_that_is_late_is_not_waited_for_if_there_is_something() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    source.let_end(1);
    assert_eq!(value(&cache, "MUG").await.0, Some(5));
    cache.expire(&"MUG");
    let begun = SystemClock.boot();
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::Stale(Reason::Late)));
    let waited = SystemClock.boot() - begun;
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(1), "{waited:?}");
    // What came late is there for the next.
    source.let_end(1);
    let begun = SystemClock.boot();
    while value(&cache, "MUG").await.1 != Origin::L1 {
        assert!(SystemClock.boot() - begun < SOON, "what came late is not there");
    }
}

#[tokio::test]
async fn nobody_waits_for_longer_than_two_seconds() {
    let source = Source::holding(&[("MUG", 5)]);
    let policy = Policy { hard_deadline: Duration::from_millis(50), ..Policy::default() };
    let cache = alone_with(&source, policy);
    let failure = cache.get(&"MUG").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(Policy::default().hard_deadline, Duration::from_secs(2));
}

#[tokio::test]
async fn a_bound_on_the_age_is_kept_by_asking_the_source() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    value(&cache, "MUG").await;
    SystemClock.sleep(Duration::from_millis(20)).await;
    let read = cache.get_at_most(&"MUG", Duration::from_secs(5)).await.unwrap();
    assert!(read.origin == Origin::L1 && read.age >= Duration::from_millis(20), "{read:?}");
    let read = cache.get_at_most(&"MUG", Duration::from_millis(10)).await.unwrap();
    assert!(read.origin == Origin::Source && read.age <= Duration::from_millis(100), "{read:?}");
    assert_eq!(cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap().origin, Origin::Source);
}

#[tokio::test]
async fn a_load_that_was_overtaken_is_kept_until_the_other_one_ends() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    let first = reading(&cache, "MUG");
    source.has_begun(1).await;
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap().value }
    });
    source.has_begun(2).await;
    source.let_end(1);
    assert_eq!(first.await.unwrap().0, Some(5));
    assert_eq!(value(&cache, "MUG").await, (Some(5), Origin::L1));
    source.let_end(1);
    assert_eq!(second.await.unwrap(), Some(5));
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn what_comes_from_who_has_changed_the_source_only_moves_forward() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    value(&cache, "MUG").await;
    let publish = async |number| {
        let since = SystemClock.boot();
        let loaded = Loaded::new(number, number, SystemClock.wall());
        cache.publish(&"MUG", loaded, since).await;
        value(&cache, "MUG").await.0
    };
    assert_eq!(publish(7).await, Some(7));
    assert_eq!(publish(6).await, Some(7));
    assert_eq!(publish(8).await, Some(8));
    // What comes late does not undo what was said since.
    source.set("MUG", 10);
    cache.invalidate(&"MUG", 10).await;
    assert_eq!(publish(9).await, Some(10));
}

#[tokio::test]
async fn nobody_serves_for_long_what_nobody_would_be_told_of() {
    let source = Source::with(&[("MUG", 5)]);
    let policy = Policy { unlinked_ttl: Duration::from_millis(50), ..Policy::default() };
    let cache = alone_with(&source, policy);
    value(&cache, "MUG").await;
    source.set("MUG", 6);
    let begun = SystemClock.boot();
    reads_soon(&cache, "MUG", 6).await;
    assert!(SystemClock.boot() - begun < Duration::from_millis(200));
}

#[tokio::test]
async fn keys_that_wait_share_a_load() {
    let source = Source::holding(&[("MUG", 5), ("HAT", 6), ("CAP", 7)]);
    let cache = alone_with(&source, Policy { loads: 1, ..Policy::default() });
    let first = reading(&cache, "MUG");
    source.has_begun(1).await;
    let [hat, cap] = ["HAT", "CAP"].map(|key| reading(&cache, key));
    SystemClock.sleep(Duration::from_millis(20)).await;
    source.let_end(2);
    assert_eq!(first.await.unwrap().0, Some(5));
    assert_eq!((hat.await.unwrap().0, cap.await.unwrap().0), (Some(6), Some(7)));
    assert_eq!(source.loads(), 2);
    let many = cache.get_many(&["CAP", "MUG", "HAT"]).await;
    let many: Vec<_> = many.into_iter().map(|read| read.unwrap().value.unwrap()).collect();
    assert_eq!(many, [7, 5, 6]);
}
