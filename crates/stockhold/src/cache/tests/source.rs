//! A source that a test drives.

use std::collections::HashMap;

use tokio::sync::Semaphore;

use super::*;

impl CacheKey for &'static str {
    fn name(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

/// A database with one number per key, which is its version as well.
#[derive(Debug)]
pub(super) struct Source {
    numbers: Mutex<HashMap<&'static str, u64>>,
    loads: AtomicUsize,
    /// How often it was asked what has changed.
    pub(super) questions: AtomicUsize,
    /// Each load and each question takes one, after it has read.
    permits: Semaphore,
    pub(super) fails: AtomicBool,
    pub(super) panics: AtomicBool,
}

impl Source {
    pub(super) fn with(numbers: &[(&'static str, u64)]) -> Arc<Self> {
        Arc::new(Self {
            numbers: Mutex::new(numbers.iter().copied().collect()),
            loads: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }

    /// Its loads do not end before they are let.
    pub(super) fn holding(numbers: &[(&'static str, u64)]) -> Arc<Self> {
        let source = Self::with(numbers);
        source.permits.forget_permits(Semaphore::MAX_PERMITS);
        source
    }

    pub(super) fn set(&self, key: &'static str, number: u64) {
        self.numbers.lock().unwrap().insert(key, number);
    }

    pub(super) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    pub(super) async fn has_begun(&self, loads: usize) {
        until("so many loads have begun", || self.loads() >= loads).await;
    }

    pub(super) fn let_end(&self, loads: usize) {
        self.permits.add_permits(loads);
    }
}

#[async_trait]
impl Loader<&'static str, u64> for Source {
    async fn load(&self, keys: Vec<&'static str>) -> Result<Vec<Loaded<u64>>, Failure> {
        let as_of = SystemClock.wall();
        let read: Vec<_> = {
            let numbers = self.numbers.lock().unwrap();
            keys.iter().map(|key| numbers.get(key).copied()).collect()
        };
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        assert!(!self.panics.load(Ordering::SeqCst), "the loader");
        if self.fails.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureKind::Unavailable, "the source is away"));
        }
        let loaded = read.into_iter().map(|number| match number {
            Some(number) => Loaded::new(number, number, as_of),
            None => Loaded::nothing(),
        });
        Ok(loaded.collect())
    }

    async fn unchanged(&self, known: &[(&'static str, u64)]) -> Result<Unchanged, Failure> {
        let as_of = SystemClock.wall();
        let are_same = {
            let numbers = self.numbers.lock().unwrap();
            known.iter().map(|(key, number)| numbers.get(key) == Some(number)).collect()
        };
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        if self.fails.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureKind::Unavailable, "the source is away"));
        }
        Ok(Unchanged { are_same, as_of })
    }
}
