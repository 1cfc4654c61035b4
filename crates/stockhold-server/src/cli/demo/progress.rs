//! Live bars on stderr, if somebody looks.

use std::{sync::Arc, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::{
    plan::{HOT, Plan, TTL},
    report::grouped,
    shopper::Shop,
    tally::Tally,
};

/// Between two looks at the tally.
const REFRESH: Duration = Duration::from_millis(80);

/// Bars that move by themselves until they are finished.
#[derive(Debug)]
pub(super) struct Progress {
    bars: Bars,
    moving: JoinHandle<()>,
}

impl Progress {
    /// Shows the shop's tally; nothing at all if `quiet`, or if stderr is no terminal.
    pub(super) fn start(plan: &Plan, shop: &Arc<Shop>, quiet: bool) -> Self {
        let bars = Bars::new(plan, quiet);
        let moving = tokio::spawn(follow(bars.clone(), Arc::clone(shop)));
        Self { bars, moving }
    }

    pub(super) fn waits_for_the_dead(&self) {
        let words = format!("all have left; waiting for the last holds to die ({TTL:?})");
        self.bars.status.set_prefix(words);
    }

    pub(super) fn finish(self) {
        self.moving.abort();
        self.bars.all.clear().unwrap_or_default(); // a terminal that is gone needs no tidying
    }
}

async fn follow(bars: Bars, shop: Arc<Shop>) {
    loop {
        let look = shop.board.with(|tally| Look::at(tally));
        bars.show(look);
        shop.clock.sleep(REFRESH).await;
    }
}

#[derive(Clone, Debug)]
struct Bars {
    all: MultiProgress,
    shoppers: ProgressBar,
    sold: ProgressBar,
    status: ProgressBar,
}

impl Bars {
    fn new(plan: &Plan, quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let all = MultiProgress::with_draw_target(target);
        let shoppers = all.add(bar(plan.shoppers, "shoppers done"));
        let sold = all.add(bar(plan.units.into(), &format!("{HOT} sold")));
        let status =
            all.add(ProgressBar::new_spinner().with_style(style("  {spinner} {msg}  {prefix}")));
        Self { all, shoppers, sold, status }
    }

    fn show(&self, look: Look) {
        self.shoppers.set_position(look.done);
        self.sold.set_position(look.sold);
        self.status.set_message(look.counters);
        self.status.tick();
    }
}

/// What is shown of a tally, so that nobody waits for a terminal with the tally locked.
struct Look {
    done: u64,
    sold: u64,
    counters: String,
}

impl Look {
    fn at(tally: &Tally) -> Self {
        let (done, sold) = (tally.shoppers_done(), tally.hot_units_sold());
        Self { done, sold, counters: counters(tally) }
    }
}

fn bar(length: u64, name: &str) -> ProgressBar {
    let template = "  {prefix:<16} {bar:40.cyan/dim} {human_pos:>7} / {human_len}";
    ProgressBar::new(length).with_style(style(template)).with_prefix(name.to_owned())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

fn counters(tally: &Tally) -> String {
    let parts = [
        (tally.held, "held"),
        (tally.refused, "refused"),
        (tally.confirmed, "confirmed"),
        (tally.released, "released"),
        (tally.walked_away, "walked away"),
        (tally.troubles.total(), "errors"),
    ];
    let parts = parts.map(|(count, name)| format!("{} {name}", grouped(count)));
    parts.join(" · ")
}
