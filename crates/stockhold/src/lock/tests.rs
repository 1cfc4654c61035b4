//! The laws of locks, with time moved by hand.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{Failure, FailureKind, clock::ManualClock};

const TTL: Duration = Duration::from_secs(10);

fn ttl() -> LeaseTtl {
    LeaseTtl::new(TTL).unwrap()
}

fn name(name: &str) -> LockName {
    LockName::new(name).unwrap()
}

fn locks() -> (Locks, ManualClock) {
    let clock = ManualClock::default();
    let backend = MemoryBackend::with_clock(3, Arc::new(clock.clone()));
    (Locks::with_clock(Arc::new(backend), Arc::new(clock.clone())), clock)
}

async fn is_busy(locks: &Locks) -> bool {
    matches!(locks.try_acquire(&name("n"), ttl()).await, Err(LockError::Busy { .. }))
}

/// Lets what runs in the background come to its end.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn there_is_no_lease_without_an_end_or_with_one_that_is_far_away() {
    for millis in [0, 99, 60_001] {
        assert!(LeaseTtl::new(Duration::from_millis(millis)).is_err());
    }
    for millis in [100, 60_000] {
        assert!(LeaseTtl::new(Duration::from_millis(millis)).is_ok());
    }
}

#[test]
fn names_and_tokens_are_plain() {
    for bad in ["", " a", "a\n", "..", &"a".repeat(129)] {
        assert!(LockName::new(bad).is_err(), "{bad:?}");
    }
    for bad in ["short", "a b c d e f g h i j", &"a".repeat(129)] {
        assert!(Token::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(name("a/b:c.d-e_f").as_str(), "a/b:c.d-e_f");
    assert!(Token::new(Token::random().as_str()).is_ok());
    assert!(!format!("{:?}", Token::random()).contains(|c: char| c.is_ascii_digit()));
}

#[tokio::test]
async fn one_has_it_and_the_next_has_a_higher_fence() {
    let (locks, _) = locks();
    let first = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    assert!(is_busy(&locks).await);
    locks.try_acquire(&name("other"), ttl()).await.unwrap();
    let fence = first.fence();
    assert_eq!(first.release().await, Released::Clean);
    let second = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    assert!(second.fence() > fence && fence.epoch == 3);
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_is_never_made_again() {
    let (locks, clock) = locks();
    let first = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    clock.advance(TTL - Duration::from_millis(1));
    assert!(is_busy(&locks).await);
    clock.advance(Duration::from_millis(1));
    assert!(matches!(first.renew().await, Err(LockError::Lost)));
    let second = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    assert_eq!(first.release().await, Released::Superseded);
    assert!(is_busy(&locks).await);
    clock.advance(TTL);
    assert_eq!(second.release().await, Released::Expired);
}

#[tokio::test]
async fn who_asks_again_with_the_same_token_has_the_same_grant() {
    let (locks, clock) = locks();
    let (lock, token) = (name("n"), Token::random());
    let ask = async || locks.acquire_as(&token, &lock, ttl(), Duration::ZERO).await.unwrap();
    let first = ask().await;
    clock.advance(TTL / 2);
    let again = ask().await;
    assert_eq!((again.fence, again.left), (first.fence, TTL / 2), "it does not live longer");
    clock.advance(TTL / 2);
    assert!(ask().await.fence > first.fence);
}

#[tokio::test]
async fn after_others_of_whom_nobody_knows_only_who_checks_the_fence_is_granted_at_once() {
    let clock = ManualClock::default();
    let backend = MemoryBackend::with_clock(4, Arc::new(clock.clone())).after_others();
    let strict = Locks::with_clock(Arc::new(backend), Arc::new(clock.clone()));
    let fenced = strict.fenced();
    assert!(is_busy(&strict).await);
    drop(fenced.try_acquire(&name("n"), ttl()).await.unwrap());
    settle().await;
    clock.advance(LeaseTtl::MAX);
    assert!(is_busy(&strict).await, "a clock may be slow");
    clock.advance(LeaseTtl::LONGEST_GHOST - LeaseTtl::MAX);
    assert!(!is_busy(&strict).await);
}

#[tokio::test]
async fn a_lease_that_is_renewed_lives_on() {
    let (locks, clock) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    for _ in 0..10 {
        clock.advance(TTL / 2);
        lease.renew().await.unwrap();
    }
    assert!(is_busy(&locks).await && lease.left() > TTL / 2);
}

#[tokio::test]
async fn a_holder_relies_on_less_than_what_was_granted() {
    let (locks, _) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    assert_eq!(lease.left(), TTL - Duration::from_millis(102));
}

#[tokio::test]
async fn a_lease_that_is_dropped_is_released_in_the_background() {
    let (locks, _) = locks();
    drop(locks.try_acquire(&name("n"), ttl()).await.unwrap());
    settle().await;
    assert!(!is_busy(&locks).await);
}

/// Counts how often it is polled; never ready.
struct Endless<'a>(&'a AtomicUsize);

impl Future for Endless<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[tokio::test]
async fn work_is_not_polled_past_its_lease() {
    let (locks, clock) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let polls = AtomicUsize::new(0);
    let mut run = Box::pin(lease.run(Endless(&polls)));
    let mut context = Context::from_waker(Waker::noop());
    for n in 1..=5 {
        assert!(run.as_mut().poll(&mut context).is_pending());
        assert_eq!(polls.load(Ordering::SeqCst), n);
    }
    // As if the process had been stopped for longer than that.
    clock.advance(TTL);
    assert_eq!(run.await, Err(LeaseLost { name: name("n") }));
    assert_eq!(polls.into_inner(), 5);
}

#[tokio::test]
async fn work_that_waits_is_dropped_when_its_lease_ends() {
    let (locks, clock) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let (dropped, is_dropped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(async move {
        lease
            .run(async move {
                let _dropped = dropped;
                std::future::pending::<()>().await;
            })
            .await
    });
    settle().await;
    clock.advance(TTL);
    assert!(is_dropped.await.is_err());
    assert!(working.await.unwrap().is_err());
}

#[tokio::test]
async fn work_whose_lease_is_renewed_goes_on() {
    let (locks, clock) = locks();
    let lease = Arc::new(locks.try_acquire(&name("n"), ttl()).await.unwrap());
    let (done, is_done) = tokio::sync::oneshot::channel();
    let working = tokio::spawn({
        let lease = Arc::clone(&lease);
        async move { lease.run(is_done).await }
    });
    for _ in 0..5 {
        settle().await;
        clock.advance(TTL / 2);
        lease.renew().await.unwrap();
    }
    done.send(7).unwrap();
    assert_eq!(working.await.unwrap(), Ok(Ok(7)));
}

#[tokio::test]
async fn a_lease_is_kept_alive_but_not_for_ever() {
    let (locks, clock) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let _alive = lease.keep_alive(3 * TTL);
    for _ in 0..9 {
        settle().await;
        clock.advance(TTL / 3 + Duration::from_millis(1));
    }
    settle().await;
    assert!(is_busy(&locks).await);
    for _ in 0..4 {
        settle().await;
        clock.advance(TTL / 3);
    }
    assert!(!is_busy(&locks).await && lease.left().is_zero());
}

/// Grants from memory, unless it is away.
#[derive(Debug)]
struct Shaky {
    memory: MemoryBackend,
    is_away: AtomicBool,
    renewals: AtomicUsize,
    releases: AtomicUsize,
}

impl Shaky {
    fn locks() -> (Locks, Arc<Self>, ManualClock) {
        let clock = ManualClock::default();
        let shaky = Arc::new(Self {
            memory: MemoryBackend::with_clock(3, Arc::new(clock.clone())),
            is_away: AtomicBool::new(false),
            renewals: AtomicUsize::new(0),
            releases: AtomicUsize::new(0),
        });
        let backend: Arc<dyn Backend> = Arc::<Self>::clone(&shaky);
        (Locks::with_clock(backend, Arc::new(clock.clone())), shaky, clock)
    }

    fn is_there(&self) -> Result<(), LockError> {
        let away = || Failure::new(FailureKind::Unavailable, "nobody answers");
        let is_away = self.is_away.load(Ordering::Relaxed);
        if is_away { Err(LockError::Unavailable(away())) } else { Ok(()) }
    }
}

#[async_trait]
impl Backend for Shaky {
    async fn acquire(
        &self,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Attempt, LockError> {
        self.is_there()?;
        self.memory.acquire(name, token, ttl, mode).await
    }

    async fn renew(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Result<(), LockError> {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.is_there()?;
        self.memory.renew(name, token, ttl).await
    }

    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, LockError> {
        self.releases.fetch_add(1, Ordering::Relaxed);
        self.is_there()?;
        self.memory.release(name, token).await
    }

    async fn inspect(&self, name: &LockName) -> Result<Option<Held>, LockError> {
        self.memory.inspect(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, LockError> {
        self.memory.list(prefix, after, limit).await
    }

    fn freed<'a>(&'a self, name: &LockName) -> Freed<'a> {
        self.memory.freed(name)
    }
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_again_for_as_long_as_the_lease_lives() {
    let (locks, shaky, clock) = Shaky::locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let _alive = lease.keep_alive(100 * TTL);
    shaky.is_away.store(true, Ordering::Relaxed);
    let step = Duration::from_millis(250);
    for _ in 0..38 {
        settle().await;
        clock.advance(step);
    }
    settle().await;
    assert!(lease.left() < 2 * step, "{:?}", lease.left());
    assert!(shaky.renewals.load(Ordering::Relaxed) > 20, "{shaky:?}");
    // At the last moment somebody answers.
    shaky.is_away.store(false, Ordering::Relaxed);
    clock.advance(step);
    settle().await;
    assert!(lease.left() > TTL - step, "{:?}", lease.left());
}

#[tokio::test]
async fn what_is_to_be_given_back_while_nobody_answers_is_bounded() {
    let (locks, shaky, clock) = Shaky::locks();
    shaky.is_away.store(true, Ordering::Relaxed);
    for n in 0..3_000 {
        let refused = locks.try_acquire(&name(&format!("n{n}")), ttl()).await;
        assert!(matches!(refused, Err(LockError::Unavailable(_))));
    }
    settle().await;
    assert!((500..=1_000).contains(&shaky.releases.swap(0, Ordering::Relaxed)));
    // Nor are they asked for all the time, and not for longer than they could live.
    for _ in 0..40 {
        clock.advance(TTL / 40);
        settle().await;
    }
    assert!(shaky.releases.swap(0, Ordering::Relaxed) <= 7_000);
    clock.advance(TTL);
    settle().await;
    assert_eq!(shaky.releases.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_waits_is_woken_when_it_is_released() {
    let (locks, _) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let waiting = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(&name("n"), ttl(), TTL).await.map(|lease| lease.fence()) }
    });
    settle().await;
    let fence = lease.fence();
    lease.release().await;
    // No time has passed.
    assert!(waiting.await.unwrap().unwrap() > fence);
}

#[tokio::test]
async fn who_waits_is_not_woken_and_looks_again() {
    let (locks, clock) = locks();
    let lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let waiting = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(&name("n"), ttl(), 2 * TTL).await.map(drop) }
    });
    settle().await;
    // It was never released: the process that had it is gone.
    std::mem::forget(lease);
    for _ in 0..43 {
        clock.advance(LOOK_AGAIN);
        settle().await;
    }
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_that_it_is_busy() {
    let (locks, clock) = locks();
    let _lease = locks.try_acquire(&name("n"), ttl()).await.unwrap();
    let wait = || {
        let locks = locks.clone();
        tokio::spawn(async move { locks.acquire(&name("n"), ttl(), TTL / 10).await.map(drop) })
    };
    // One asks, the other stands behind it.
    let waiting = [wait(), wait()];
    for _ in 0..10 {
        settle().await;
        clock.advance(TTL / 50);
    }
    for waited in waiting {
        let error = waited.await.unwrap().unwrap_err();
        assert!(matches!(error, LockError::Busy { left } if left > TTL / 2), "{error}");
    }
}

#[tokio::test]
async fn several_are_had_in_one_order_or_not_at_all() {
    let (locks, _) = locks();
    let names = |all: &[&str]| all.iter().map(|one| name(one)).collect::<Vec<_>>();
    let leases = locks.lock_all(&names(&["b", "a", "b"]), ttl(), TTL).await.unwrap();
    assert_eq!(leases.len(), 2);
    let error = locks.lock_all(&names(&["c", "b"]), ttl(), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, LockError::Busy { .. }));
    settle().await;
    locks.try_acquire(&name("c"), ttl()).await.unwrap();
    drop(leases);
    let working = (0..50).map(|n| {
        let (locks, order) = (locks.clone(), if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] });
        tokio::spawn(async move { locks.lock_all(&names(&order), ttl(), TTL).await.map(drop) })
    });
    for worked in working.collect::<Vec<_>>() {
        worked.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_stops_at_any_await_leaves_nothing_behind() {
    for polls in 0.. {
        let (locks, _) = locks();
        let (lock, mut context) = (name("n"), Context::from_waker(Waker::noop()));
        let mut acquire = Box::pin(locks.acquire(&lock, ttl(), TTL));
        let stopped_at = (0..polls).find_map(|_| match acquire.as_mut().poll(&mut context) {
            Poll::Ready(lease) => Some(lease.unwrap()),
            Poll::Pending => None,
        });
        drop(acquire);
        if let Some(lease) = stopped_at {
            let mut release = Box::pin(lease.release());
            let _ = release.as_mut().poll(&mut context);
            drop(release);
            settle().await;
            assert!(!is_busy(&locks).await);
            break;
        }
        settle().await;
        assert!(!is_busy(&locks).await, "after {polls} polls");
    }
}

#[tokio::test]
async fn whoever_looks_sees_who_has_what() {
    let (locks, clock) = locks();
    let backend = locks.backend();
    let leases =
        locks.lock_all(&[name("a/1"), name("a/2"), name("b/1")], ttl(), TTL).await.unwrap();
    clock.advance(TTL / 2);
    let held = backend.inspect(&name("a/2")).await.unwrap().unwrap();
    assert_eq!((held.fence, held.left), (leases[1].fence(), TTL / 2));
    let listed = async |after: Option<&str>, limit| {
        let held = backend.list("a/", after.map(name).as_ref(), limit).await.unwrap();
        held.into_iter().map(|held| held.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 10).await, ["a/1", "a/2"]);
    assert_eq!(listed(None, 1).await, ["a/1"]);
    assert_eq!(listed(Some("a/1"), 10).await, ["a/2"]);
    clock.advance(TTL / 2);
    assert!(listed(None, 10).await.is_empty());
    assert_eq!(backend.inspect(&name("a/2")).await.unwrap(), None);
}
