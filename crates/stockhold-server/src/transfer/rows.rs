//! Stock items as rows that can be loaded again: what a server exports, and what is read from the
//! file of a ledger.

use std::io::Write;

use stockhold::StockItem;

use super::columns::quoted;
use crate::wire::{Format, RowBody, StockRowBody};

/// What stands above all rows.
pub(crate) fn write_header(text: &mut Vec<u8>, format: Format) {
    if format == Format::Csv {
        text.extend_from_slice(RowBody::COLUMNS.join(",").as_bytes());
        text.push(b'\n');
    }
}

/// Appends a row.
pub(crate) fn write_row(text: &mut Vec<u8>, format: Format, item: &StockItem) {
    // Our own types have text keys and no failing parts, and a Vec takes everything.
    let _ = match format {
        Format::Ndjson => serde_json::to_writer(&mut *text, &StockRowBody::of(item)).is_ok(),
        Format::Csv => {
            let (sku, location) =
                (quoted(item.key.sku.as_str()), quoted(item.key.location.as_str()));
            write!(text, "{sku},{location},{},{}", item.on_hand, item.safety_stock).is_ok()
        }
    };
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stockhold::{ItemKey, Quantity, Sku, Timestamp};

    use super::*;

    fn written(format: Format, sku: &str) -> String {
        let key = Arc::new(ItemKey::at_default(Sku::new(sku).unwrap()));
        let item =
            StockItem { on_hand: Quantity::ONE, ..StockItem::empty(key, Timestamp::default()) };
        let mut text = Vec::new();
        write_header(&mut text, format);
        write_row(&mut text, format, &item);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_row_is_an_object_or_comma_separated() {
        let json = "{\"sku\":\"MUG\",\"location\":\"default\",\"on_hand\":1,\"safety_stock\":0}\n";
        assert_eq!(written(Format::Ndjson, "MUG"), json);
        let csv = "sku,location,on_hand,safety_stock\nMUG,default,1,0\n";
        assert_eq!(written(Format::Csv, "MUG"), csv);
        assert!(written(Format::Csv, "a \"b\", c").contains("\n\"a \"\"b\"\", c\",default,1,0\n"));
    }
}
