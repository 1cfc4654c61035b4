//! Stock items for people.

use comfy_table::Table;

use super::super::{
    answer::{Item, Moved, Movement},
    table::table,
};

/// One item.
pub(super) fn item(item: &Item) -> String {
    items(std::slice::from_ref(item)).to_string()
}

/// A movement, and what the item is like after it.
pub(super) fn moved(moved: &Moved) -> String {
    let Moved { movement: Movement { id, kind, delta, at, .. }, item } = moved;
    format!("movement {id}: {kind} {delta:+} at {at}\n{}", self::item(item))
}

/// A row for each item.
pub(super) fn items(items: &[Item]) -> Table {
    let header = [
        "sku",
        "location",
        "#available",
        "#on hand",
        "#held",
        "#allocated",
        "#safety stock",
        "next hold dies",
    ];
    let mut table = table(header);
    for item in items {
        let Item { available, on_hand, held, allocated, safety_stock, .. } = item;
        let [available, on_hand, held, allocated, safety_stock] =
            [available, on_hand, held, allocated, safety_stock].map(i64::to_string);
        let (sku, location) = (item.sku.clone(), item.location.clone());
        let due = item.next_due();
        table.add_row([sku, location, available, on_hand, held, allocated, safety_stock, due]);
    }
    table
}
