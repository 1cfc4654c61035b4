//! An item of which one more comes again and again, and readers of its copies who know when each was acknowledged: a copy
//! is as young as it says if it lacks nothing that was acknowledged before.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use tokio::task::JoinSet;

use crate::{shop::Shop, shopper::Shopper};

const SKU: &str = "PEN";
/// Between two deliveries, and between two looks of one reader.
const PAUSE: Duration = Duration::from_millis(5);
/// Every other reader asks for nothing older, in milliseconds.
pub(crate) const MOST: u64 = 300;

/// Whoever brings it, and two readers for each instance.
pub(crate) struct Counted {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// When each of them was acknowledged, one after the other.
    acknowledged: Mutex<Vec<Duration>>,
    leave: AtomicBool,
    /// So many reads were answered from copies, and so many by the ledger.
    copies: AtomicU64,
    loads: AtomicU64,
}

impl Counted {
    /// They begin; these bring it, one after the other.
    pub(crate) async fn begin(shop: &Shop, suppliers: Vec<Shopper>) -> Self {
        shop.stock(SKU, 0).await;
        let (shared, mut tasks) = (Arc::<Shared>::default(), JoinSet::new());
        tasks.spawn(Arc::clone(&shared).bring(suppliers));
        for n in 0..shop.instances.len() {
            tasks.spawn(Arc::clone(&shared).look(shop.keeper(n), None));
            tasks.spawn(Arc::clone(&shared).look(shop.keeper(n), Some(MOST)));
        }
        Self { shared, tasks }
    }

    /// They go, and nothing was wrong: so many reads were answered from copies.
    pub(crate) async fn leave(mut self) -> u64 {
        self.shared.leave.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        let brought = self.shared.acknowledged.lock().unwrap().len();
        let [copies, loads] =
            [&self.shared.copies, &self.shared.loads].map(|n| n.load(Ordering::Relaxed));
        assert!(brought > 20 && loads > 20, "{brought} were brought, {loads} were read anew");
        copies
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }

    async fn bring(self: Arc<Self>, mut suppliers: Vec<Shopper>) {
        for n in 0.. {
            if self.is_over() {
                return;
            }
            let supplier = n % suppliers.len();
            let told = suppliers[supplier].receive(SKU, 1, &format!("pen-{n}")).await;
            told.expect_status(201);
            self.acknowledged.lock().unwrap().push(SystemClock.boot());
            SystemClock.sleep(PAUSE).await;
        }
    }

    async fn look(self: Arc<Self>, mut reader: Shopper, most: Option<u64>) {
        let bound = most.map(|most| format!("&max_age_ms={most}")).unwrap_or_default();
        let path = format!("/v1/stock/{SKU}?consistency=cached{bound}");
        while !self.is_over() {
            let begun = SystemClock.boot();
            let item = reader.get(&path).await.expect_status(200);
            let number = |name: &str| item[name].as_u64().unwrap();
            let (on_hand, age) = (number("on_hand"), number("age_ms"));
            let is_copy = item["origin"] != "ledger";
            assert!(!is_copy || most.is_none_or(|most| age <= most), "{item}");
            // Whole milliseconds are told.
            let since = begun.saturating_sub(Duration::from_millis(age + 1));
            let next =
                self.acknowledged.lock().unwrap().get(usize::try_from(on_hand).unwrap()).copied();
            assert!(
                next.is_none_or(|at| at >= since),
                "{item} lacks what was acknowledged {:?} before",
                next.map(|at| since.saturating_sub(at))
            );
            let count = if is_copy { &self.copies } else { &self.loads };
            count.fetch_add(1, Ordering::Relaxed);
            SystemClock.sleep(PAUSE).await;
        }
    }
}
