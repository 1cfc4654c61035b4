//! Stock items as rows that can be imported again.

use serde::Serialize;
use stockhold::StockItem;

use super::Format;

/// What stands above all rows.
pub(super) fn header(format: Format) -> Vec<u8> {
    match format {
        Format::Ndjson => Vec::new(),
        Format::Csv => b"sku,location,on_hand,safety_stock\n".to_vec(),
    }
}

/// Appends a row.
pub(super) fn write(text: &mut Vec<u8>, format: Format, item: &StockItem) {
    let row = Row {
        sku: item.key.sku.as_str(),
        location: item.key.location.as_str(),
        on_hand: item.on_hand.get(),
        safety_stock: item.safety_stock.get(),
    };
    match format {
        Format::Ndjson => row.as_json(text),
        Format::Csv => row.as_csv(text),
    }
    text.push(b'\n');
}

#[derive(Serialize)]
struct Row<'a> {
    sku: &'a str,
    location: &'a str,
    on_hand: i64,
    safety_stock: i64,
}

impl Row<'_> {
    fn as_json(&self, text: &mut Vec<u8>) {
        // Texts and numbers can always be written into a Vec.
        let _ = serde_json::to_writer(text, self);
    }

    fn as_csv(&self, text: &mut Vec<u8>) {
        let Self { sku, location, on_hand, safety_stock } = self;
        let row = format!("{},{},{on_hand},{safety_stock}", quoted(sku), quoted(location));
        text.extend_from_slice(row.as_bytes());
    }
}

/// RFC 4180; names have no line breaks in them.
fn quoted(name: &str) -> String {
    if name.contains([',', '"']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stockhold::{ItemKey, Quantity, Sku, Timestamp};

    use super::*;

    fn written(format: Format, sku: &str) -> String {
        let key = Arc::new(ItemKey::at_default(Sku::new(sku).unwrap()));
        let mut item = StockItem::empty(key, Timestamp::default());
        item.on_hand = Quantity::ONE;
        let mut text = header(format);
        write(&mut text, format, &item);
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
