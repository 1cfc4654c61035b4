//! The ledger's own account of a shop, read by SQL: no code that is tested has a hand in it.

use std::collections::BTreeMap;

use stockhold_testkit::history::{Item, Ledger, Sale};

/// Reads the account. The key of a hold is its owner: every place of a recorded history has one of
/// its own.
pub(crate) fn read(sql: impl Fn(&str) -> String, supply: &[(&str, i64)]) -> Ledger {
    let supply = supply.iter().map(|(sku, units)| ((*sku).to_owned(), *units));
    Ledger {
        supply: supply.collect::<BTreeMap<_, _>>(),
        items: json::<Item>(&sql(&rows(ITEMS))),
        sales: json::<Sale>(&sql(&rows(SALES))),
        live: json::<Sale>(&sql(&rows(LIVE))),
    }
}

fn rows(select: &str) -> String {
    format!("SELECT coalesce(json_agg(row_to_json(found)), '[]') FROM ({select}) AS found")
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

const ITEMS: &str = "SELECT sku AS item, on_hand, held, allocated, lent, safety_stock, \
    on_hand - held - allocated - lent - safety_stock AS available FROM stock";

/// Active: never confirmed, released, expired or revoked.
const LIVE: &str = "SELECT id AS hold, owner AS key, \
    (SELECT json_agg(json_build_object('item', stock.sku, 'quantity', line.units)) \
        FROM unnest(hold.items, hold.units) AS line (item, units) JOIN stock USING (item)) AS lines \
    FROM hold WHERE NOT EXISTS (SELECT FROM transition WHERE hold = id \
        AND step IN ('confirm', 'release', 'expire', 'revoke'))";

/// Confirmed, in time or late: what the confirm names, or all; less what was shipped or cancelled since.
const SALES: &str = "SELECT hold.id AS hold, owner AS key, \
    (SELECT json_agg(json_build_object('item', stock.sku, 'quantity', \
        CASE WHEN step.lines IS NULL THEN line.units \
             ELSE coalesce(step.units[array_position(step.lines, line.n - 1)], 0) END)) \
        FROM unnest(hold.items, hold.units) WITH ORDINALITY AS line (item, units, n) \
        JOIN stock USING (item)) AS lines, \
    (SELECT coalesce(json_agg(json_build_object('item', stock.sku, 'quantity', moved.units)), '[]') \
        FROM transition AS later \
        CROSS JOIN unnest(later.lines, later.units) AS moved (line, units) \
        JOIN stock ON stock.item = hold.items[moved.line + 1] \
        WHERE later.hold = hold.id AND later.step IN ('ship', 'cancel')) AS gone \
    FROM hold JOIN transition AS step ON step.hold = hold.id AND step.step IN ('confirm', 'rehold')";
