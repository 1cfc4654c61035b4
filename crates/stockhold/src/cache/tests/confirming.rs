//! What the source is asked of copies that are here, and copies that somebody keeps.

use super::*;

/// What this process has, and how long ago it is known to have been so.
fn at_hand(cache: &TestCache, key: &'static str) -> Option<(u64, Duration)> {
    cache.look(&key, SystemClock.boot(), |number, age, _| (*number, age))
}

#[tokio::test]
async fn what_has_not_changed_is_confirmed_and_the_rest_is_loaded() {
    let source = Source::with(&[("MUG", 5), ("HAT", 6), ("CAP", 7), ("OVER", 9)]);
    let cache = alone(&source);
    for key in ["MUG", "HAT", "OVER"] {
        value(&cache, key).await;
    }
    SystemClock.sleep(Duration::from_millis(20)).await;
    source.set("HAT", 8);
    let (asked, loads) = (SystemClock.boot(), source.loads());
    let as_of = |cache: &TestCache| cache.look(&"MUG", asked, |_, _, as_of| as_of).unwrap();
    let (before, is_over) = (as_of(&cache), |number: &u64, _| *number == 9);
    cache.confirm(&["MUG", "HAT", "CAP", "NONE", "OVER"], is_over).await.unwrap();
    let (mug, age) = at_hand(&cache, "MUG").unwrap();
    assert!(mug == 5 && age <= SystemClock.boot() - asked && as_of(&cache) > before, "{age:?}");
    // Whoever asks for a young one is not content with that: the version does not count everything.
    assert!(cache.peek(&"MUG").unwrap().age >= Duration::from_millis(20));
    let is_loaded = |key, number: u64, since: Duration| {
        let age = at_hand(&cache, key).filter(|(found, _)| *found == number).map(|(_, age)| age);
        age.is_some_and(|age| age <= SystemClock.boot() - since)
    };
    let rest = [("HAT", 8), ("CAP", 7), ("OVER", 9)];
    until("the rest is loaded", || rest.iter().all(|(k, n)| is_loaded(*k, *n, asked))).await;
    assert_eq!(source.questions.load(Ordering::SeqCst), 1);
    assert!(source.loads() > loads && at_hand(&cache, "NONE").is_none());
}

#[tokio::test]
async fn what_is_invalidated_while_the_source_is_asked_does_not_come_back() {
    let source = Source::holding(&[("MUG", 5)]);
    let cache = alone(&source);
    source.let_end(1);
    value(&cache, "MUG").await;
    let asking = tokio::spawn({
        let cache = cache.clone();
        async move { cache.confirm(&["MUG"], NEVER).await }
    });
    until("the source is asked", || source.questions.load(Ordering::SeqCst) > 0).await;
    source.set("MUG", 6);
    cache.invalidate(&"MUG", 6).await;
    source.let_end(1);
    asking.await.unwrap().unwrap();
    assert_eq!(at_hand(&cache, "MUG"), None);
    source.let_end(1);
    assert_eq!(value(&cache, "MUG").await.0, Some(6));
}

#[tokio::test]
async fn what_is_kept_is_not_seen_any_more_once_it_is_said_to_be_old() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    let seen = |kept: &Kept<u64>| cache.look_at(kept, SystemClock.boot(), |number, _, _| *number);
    assert!(cache.keep(&"MUG").is_none());
    let changes: [&dyn Fn(); 3] =
        [&|| cache.invalidate_soon(&"MUG", 6), &|| cache.expire(&"MUG"), &|| cache.clear()];
    for (n, change) in changes.into_iter().enumerate() {
        value(&cache, "MUG").await;
        let kept = cache.keep(&"MUG").unwrap();
        assert_eq!(seen(&kept), Some(5));
        change();
        assert_eq!(seen(&kept), None, "after change {n}");
    }
    value(&cache, "MUG").await;
    let kept = cache.keep(&"MUG").unwrap();
    source.set("MUG", 6);
    cache.get_at_most(&"MUG", Duration::ZERO).await.unwrap();
    assert_eq!(seen(&kept), None);
    assert_eq!(seen(&cache.keep(&"MUG").unwrap()), Some(6));
}

#[tokio::test]
async fn a_source_that_does_not_say_what_has_changed_confirms_nothing() {
    let source = Source::with(&[("MUG", 5)]);
    let cache = alone(&source);
    value(&cache, "MUG").await;
    SystemClock.sleep(Duration::from_millis(20)).await;
    source.fails.store(true, Ordering::SeqCst);
    let failure = cache.confirm(&["MUG"], NEVER).await.unwrap_err();
    assert_eq!(failure.message, "the source is away");
    assert!(at_hand(&cache, "MUG").unwrap().1 >= Duration::from_millis(20));
}
