//! Lines as they are written on a command line.

use std::str::FromStr;

use serde_json::{Value, json};
use stockhold::{ItemKey, Location, Quantity, Sku};

/// `SKU=UNITS` or `SKU@LOCATION=UNITS`.
///
/// A SKU may have any of these signs in it: the last `=` and, before it, the last `@` count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    item: ItemKey,
    units: Quantity,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (item, units) = text.rsplit_once('=').ok_or("SKU=UNITS, for example MUG=2")?;
        let (sku, location) = match item.rsplit_once('@') {
            Some((sku, location)) => (sku, location.parse().map_err(|e| wrong(&e))?),
            None => (item, Location::default()),
        };
        let sku = sku.parse::<Sku>().map_err(|e| wrong(&e))?;
        Ok(Self { item: ItemKey { sku, location }, units: self::units(units)? })
    }
}

fn wrong(error: &stockhold::InvalidName) -> String {
    error.to_string()
}

/// Reads a number of units, at least 1.
pub(super) fn units(text: &str) -> Result<Quantity, String> {
    let units = any_units(text)?;
    if units.is_positive() { Ok(units) } else { Err("units are at least 1".to_owned()) }
}

/// Reads a number of units, at least 0.
pub(super) fn some_or_no_units(text: &str) -> Result<Quantity, String> {
    let units = any_units(text)?;
    if units.is_negative() { Err("units are at least 0".to_owned()) } else { Ok(units) }
}

/// Reads a number of units, which may be less than none.
pub(super) fn any_units(text: &str) -> Result<Quantity, String> {
    let units: i64 = text.parse().map_err(|_| "units are a whole number".to_owned())?;
    Quantity::new(units).map_err(|error| error.to_string())
}

/// The lines of a request.
pub(super) fn as_json(lines: &[Wanted]) -> Value {
    let line = |Wanted { item, units }: &Wanted| json!({"sku": item.sku.as_str(), "location": item.location.as_str(), "quantity": units.get()});
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, i64)> {
        let Wanted { item, units } = text.parse().ok()?;
        Some((item.sku.to_string(), item.location.to_string(), units.get()))
    }

    fn wanted(sku: &str, location: &str, units: i64) -> Option<(String, String, i64)> {
        Some((sku.to_owned(), location.to_owned(), units))
    }

    #[test]
    fn a_line_is_an_item_and_its_units() {
        assert_eq!(read("MUG=2"), wanted("MUG", "default", 2));
        assert_eq!(read("TEE-RED@north=1"), wanted("TEE-RED", "north", 1));
        assert_eq!(read("a=b@c@default=7"), wanted("a=b@c", "default", 7));
        assert_eq!(read("Größe 42=1"), wanted("Größe 42", "default", 1));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in ["", "MUG", "MUG=", "MUG=x", "MUG=0", "MUG=-1", "=1", "MUG@=1", "MUG=1.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn units_have_a_range() {
        assert!(units("9007199254740992").is_err() && any_units("-5").is_ok());
        assert!(some_or_no_units("-1").is_err() && some_or_no_units("0").is_ok());
    }
}
