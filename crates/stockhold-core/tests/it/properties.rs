//! Laws that hold in every history.

use proptest::prelude::*;
use stockhold_core::{Basket, InvalidBasket, ItemKey, Quantity, Sku};

use crate::history::{World, events};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    /// I1 to I8, G2, and the laws of `oracle.rs`, after every step.
    #[test]
    fn every_law_holds_in_every_history(events in events()) {
        let mut world = World::new().map_err(TestCaseError::fail)?;
        for event in &events {
            world.happen(event).map_err(TestCaseError::fail)?;
        }
    }
}

proptest! {
    #[test]
    fn a_basket_sums_its_lines_in_any_order(
        (lines, shuffled) in lines().prop_flat_map(|l| (Just(l.clone()), Just(l).prop_shuffle())),
    ) {
        let basket = basket_of(&lines)?;
        prop_assert_eq!(&basket, &basket_of(&shuffled)?);
        for (item, units) in basket.iter() {
            let same = lines.iter().filter(|(name, _)| *item.sku.as_str() == **name);
            prop_assert_eq!(units.get(), same.map(|(_, units)| units).sum::<i64>());
        }
        let total: i64 = basket.iter().map(|(_, units)| units.get()).sum();
        prop_assert_eq!(total, lines.iter().map(|(_, units)| units).sum::<i64>());
        prop_assert!(basket.iter().zip(basket.iter().skip(1)).all(|(a, b)| a.0 < b.0));
    }

    #[test]
    fn a_basket_names_the_first_line_that_has_no_units(
        lines in lines(), at in any::<prop::sample::Index>(), units in -3_i64..=0,
    ) {
        let mut lines = lines;
        let index = at.index(lines.len());
        lines[index].1 = units;
        let refused = Basket::new(keyed(&lines)?);
        prop_assert_eq!(refused, Err(InvalidBasket::NotPositive { index }));
    }
}

#[test]
fn an_empty_basket_is_refused() {
    assert_eq!(Basket::new([]), Err(InvalidBasket::Empty));
}

#[test]
fn a_sum_that_cannot_be_said_is_refused() {
    let mug = ItemKey::at_default(Sku::new("MUG").unwrap());
    let lines = [(mug.clone(), Quantity::MAX), (mug, Quantity::ONE)];
    assert_eq!(Basket::new(lines), Err(InvalidBasket::OutOfRange { index: 1 }));
}

type Lines = Vec<(String, i64)>;

fn lines() -> impl Strategy<Value = Lines> {
    prop::collection::vec(("[A-D]", 1_i64..1_000_000_000), 1..12)
}

fn keyed(lines: &Lines) -> Result<Vec<(ItemKey, Quantity)>, TestCaseError> {
    let mut keyed = Vec::new();
    for (name, units) in lines {
        let sku = Sku::new(name).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let units = Quantity::new(*units).map_err(|e| TestCaseError::fail(e.to_string()))?;
        keyed.push((ItemKey::at_default(sku), units));
    }
    Ok(keyed)
}

fn basket_of(lines: &Lines) -> Result<Basket, TestCaseError> {
    Basket::new(keyed(lines)?).map_err(|e| TestCaseError::fail(e.to_string()))
}
