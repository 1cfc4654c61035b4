//! Who comes when, wants what, and does what with it: all of it follows from the seed.

use std::time::Duration;

/// What everybody wants.
pub(super) const HOT: &str = "SNEAKER-42";

const THINGS: [&str; 10] =
    ["BAG", "BELT", "CAP", "HOODIE", "LACES", "MUG", "POSTER", "SCARF", "SOCKS", "TEE"];
const COLOURS: [&str; 5] = ["BLACK", "BLUE", "GREEN", "RED", "WHITE"];
/// How many other SKUs there are.
pub(super) const OTHERS: usize = THINGS.len() * COLOURS.len();

/// For how long a place is promised.
pub(super) const TTL: Duration = Duration::from_secs(2);
/// How often a refused shopper comes back.
pub(super) const COMES_BACK: usize = 2;
/// So many arrive in a second, on average.
const PER_SECOND: u64 = 5_000;

/// A flash sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) shoppers: u64,
    /// Units of the hot SKU.
    pub(super) units: u32,
}

/// Something that is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) sku: String,
    pub(super) units: i64,
}

/// A line of a basket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// Which of [`Plan::items`].
    pub(super) item: usize,
    pub(super) units: i64,
}

/// What a shopper does with a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Confirms,
    Releases,
    WalksAway,
}

/// Somebody who comes to the sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shopper {
    pub(super) owner: String,
    /// The idempotency key of all that this shopper does.
    pub(super) key: String,
    pub(super) wants: Vec<Want>,
    /// When, after the doors open.
    pub(super) arrives: Duration,
    /// Between the hold and what is done with it.
    pub(super) thinks: Duration,
    /// After how long a refused shopper asks again.
    pub(super) comes_back: [Duration; COMES_BACK],
    pub(super) ending: Ending,
}

impl Plan {
    /// All that is sold, the hot one first.
    pub(super) fn items(&self) -> Vec<Item> {
        let hot = Item { sku: HOT.to_owned(), units: self.units.into() };
        let units = self.units_of_others();
        let things = THINGS.iter().flat_map(|thing| COLOURS.iter().map(move |c| (thing, c)));
        let others = things.map(|(thing, colour)| Item { sku: format!("{thing}-{colour}"), units });
        std::iter::once(hot).chain(others).collect()
    }

    /// Units of each of the other SKUs.
    pub(super) fn units_of_others(&self) -> i64 {
        i64::from(self.units.div_ceil(10))
    }

    /// One shopper; later numbers arrive later. Whoever asks twice hears the same.
    pub(super) fn shopper(&self, number: u64) -> Shopper {
        let mut dice = Dice::of(self.seed, number);
        Shopper {
            owner: format!("shopper-{number}"),
            key: format!("{:016x}{:016x}", dice.roll(), dice.roll()),
            wants: wants(&mut dice),
            arrives: self.arrival(number),
            thinks: dice.between(50, 800),
            comes_back: std::array::from_fn(|_| dice.between(500, 2_500)),
            ending: ending(&mut dice),
        }
    }

    /// The crowd is densest at the start: half of it has arrived after a quarter of the time.
    fn arrival(&self, number: u64) -> Duration {
        let rush = Duration::from_secs(1).mul_f64(as_f64(self.shoppers) / as_f64(PER_SECOND));
        let share = as_f64(number) / as_f64(self.shoppers.max(1));
        rush.max(Duration::from_secs(1)).mul_f64(share * share)
    }
}

/// Exact for every number of shoppers that can be asked for.
fn as_f64(number: u64) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

/// 80 % want the hot one, 12 % the hot one and one or two others, 8 % two or three others.
fn wants(dice: &mut Dice) -> Vec<Want> {
    let hot = Want { item: 0, units: 1 };
    let (first, others) = match dice.below(100) {
        0..80 => (Some(hot), 0),
        80..92 => (Some(hot), 1 + dice.below(2)),
        _ => (None, 2 + dice.below(2)),
    };
    let mut wants: Vec<Want> = first.into_iter().collect();
    for _ in 0..others {
        let want =
            Want { item: 1 + dice.pick(OTHERS), units: if dice.below(4) == 0 { 2 } else { 1 } };
        if wants.iter().all(|other| other.item != want.item) {
            wants.push(want);
        }
    }
    wants
}

fn ending(dice: &mut Dice) -> Ending {
    match dice.below(100) {
        0..70 => Ending::Confirms,
        70..85 => Ending::Releases,
        _ => Ending::WalksAway,
    }
}

/// Random numbers that follow from a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    /// Every shopper has dice of their own, so that nobody's depend on who came before.
    fn of(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed);
        Self(dice.roll() ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const PLAN: Plan = Plan { seed: 7, shoppers: 20_000, units: 1_000 };

    fn all(plan: Plan) -> impl Iterator<Item = Shopper> {
        (0..plan.shoppers).map(move |number| plan.shopper(number))
    }

    fn share(of: impl Fn(&Shopper) -> bool) -> f64 {
        let count = all(PLAN).filter(|shopper| of(shopper)).count();
        as_f64(count as u64) / as_f64(PLAN.shoppers)
    }

    #[test]
    fn the_seed_decides_everything() {
        assert!(all(PLAN).eq(all(PLAN)));
        assert_ne!(PLAN.shopper(3).key, Plan { seed: 8, ..PLAN }.shopper(3).key);
    }

    #[test]
    fn nobody_shares_a_key_or_an_owner() {
        let count = all(PLAN).count();
        assert_eq!(all(PLAN).map(|shopper| shopper.key).collect::<HashSet<_>>().len(), count);
        assert_eq!(all(PLAN).map(|shopper| shopper.owner).collect::<HashSet<_>>().len(), count);
    }

    #[test]
    fn seventy_percent_confirm_fifteen_release_fifteen_walk_away() {
        let near = |share: f64, wanted: f64| (share - wanted).abs() < 0.01;
        assert!(near(share(|shopper| shopper.ending == Ending::Confirms), 0.70));
        assert!(near(share(|shopper| shopper.ending == Ending::Releases), 0.15));
        assert!(near(share(|shopper| shopper.ending == Ending::WalksAway), 0.15));
        assert!(near(share(|shopper| shopper.wants.iter().any(|want| want.item == 0)), 0.92));
    }

    #[test]
    fn baskets_are_made_of_different_items_that_are_sold() {
        let items = PLAN.items();
        assert_eq!(items.iter().map(|item| &item.sku).collect::<HashSet<_>>().len(), 51);
        for shopper in all(PLAN) {
            let wanted: HashSet<_> = shopper.wants.iter().map(|want| want.item).collect();
            assert!(wanted.len() == shopper.wants.len() && matches!(wanted.len(), 1..=3));
            assert!(
                shopper.wants.iter().all(|w| w.item < items.len() && (1..=2).contains(&w.units))
            );
        }
    }

    #[test]
    fn they_arrive_in_order_within_a_few_seconds_most_of_them_early() {
        assert!(all(PLAN).is_sorted_by_key(|shopper| shopper.arrives));
        assert_eq!(PLAN.shopper(10_000).arrives, Duration::from_secs(1));
        assert!(PLAN.shopper(19_999).arrives < Duration::from_secs(4));
    }

    #[test]
    fn whoever_thinks_is_done_before_the_hold_dies() {
        assert!(all(PLAN).all(|shopper| shopper.thinks < TTL / 2));
    }
}
