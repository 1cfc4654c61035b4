//! A view of a stock item in a few bytes, for other processes.
//!
//! The first byte is the version of this format: whoever does not know it asks the ledger instead.

use std::sync::Arc;

use stockhold_core::{ItemKey, Location, Quantity, Sku, StockItem, StockView, Timestamp};

const FORMAT: u8 = 1;

pub(super) fn encode(view: &StockView) -> Vec<u8> {
    let StockView { item, next_due_at, as_of } = view;
    let quantities = [item.on_hand, item.held, item.allocated, item.lent, item.safety_stock];
    let quantities = quantities.map(Quantity::get);
    let times = [item.touched_at, *as_of].map(Timestamp::as_millis);
    let (due, due_at) = (next_due_at.is_some(), next_due_at.map_or(0, Timestamp::as_millis));
    let mut bytes = vec![FORMAT, u8::from(due)];
    for number in quantities.into_iter().chain(times).chain([due_at]) {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(item.version.to_be_bytes());
    let (sku, location) = (item.key.sku.as_str(), item.key.location.as_str());
    // A SKU has 128 bytes at most.
    bytes.push(u8::try_from(sku.len()).unwrap_or(u8::MAX));
    bytes.extend(sku.bytes());
    bytes.extend(location.bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<StockView> {
    let (&[FORMAT, due], rest) = bytes.split_first_chunk::<2>()? else { return None };
    let mut rest = Rest(rest);
    let mut quantity = || Quantity::new(rest.number()?).ok();
    let [on_hand, held, allocated] = [quantity()?, quantity()?, quantity()?];
    let [lent, safety_stock] = [quantity()?, quantity()?];
    let mut time = || rest.number().map(Timestamp::from_millis);
    let [touched_at, as_of, due_at] = [time()?, time()?, time()?];
    let version = u64::from_be_bytes(rest.chunk()?);
    let [length] = rest.chunk()?;
    let (sku, location) = rest.0.split_at_checked(length.into())?;
    let sku = Sku::new(std::str::from_utf8(sku).ok()?).ok()?;
    let location = Location::new(std::str::from_utf8(location).ok()?).ok()?;
    let item = StockItem {
        key: Arc::new(ItemKey { sku, location }),
        on_hand,
        held,
        allocated,
        lent,
        safety_stock,
        version,
        touched_at,
    };
    Some(StockView { item, next_due_at: (due == 1).then_some(due_at), as_of })
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn number(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(next_due_at: Option<i64>) -> StockView {
        let key = ItemKey {
            sku: Sku::new("TASSE-GRÜN").unwrap(),
            location: Location::new("regal 7").unwrap(),
        };
        let units = |n| Quantity::new(n).unwrap();
        let item = StockItem {
            key: Arc::new(key),
            on_hand: units(-3),
            held: units(2),
            allocated: Quantity::MAX,
            lent: units(0),
            safety_stock: units(1),
            version: u64::MAX,
            touched_at: Timestamp::from_millis(1_790_000_000_123),
        };
        let next_due_at = next_due_at.map(Timestamp::from_millis);
        StockView { item, next_due_at, as_of: Timestamp::from_millis(-1) }
    }

    #[test]
    fn a_view_is_read_as_it_was_written() {
        for view in [view(None), view(Some(0)), view(Some(1_790_000_030_000))] {
            assert_eq!(decode(&encode(&view)), Some(view));
        }
    }

    #[test]
    fn what_is_no_view_is_not_read() {
        let bytes = encode(&view(None));
        for cut in 0..bytes.len() - "regal 7".len() {
            assert_eq!(decode(&bytes[..cut]), None, "{cut}");
        }
        let other = [&[FORMAT + 1], &bytes[1..]].concat();
        assert_eq!(decode(&other), None);
    }
}
