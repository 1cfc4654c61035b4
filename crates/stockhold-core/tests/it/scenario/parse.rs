//! Reading the lines of a scenario.

use std::collections::BTreeMap;

use stockhold_core::{Basket, ItemKey, Quantity, Sku, Timestamp};

use crate::rows::Fault;

/// What a line asks, and what it expects; nothing of an empty line.
pub(super) fn split(line: &str) -> Option<(&str, Option<&str>)> {
    let line = line.split('#').next().unwrap_or("").trim();
    if line.is_empty() {
        return None;
    }
    match line.split_once("->") {
        Some((ask, expected)) => Some((ask.trim(), Some(expected.trim()))),
        None => Some((line, None)),
    }
}

/// The words after a verb. Each is taken once; a word that nobody took means nothing.
#[derive(Debug)]
pub(super) struct Words<'a> {
    plain: Vec<&'a str>,
    lines: Vec<(&'a str, &'a str)>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut words = Self { plain: vec![], lines: vec![], options: BTreeMap::new() };
        for word in text.split_whitespace() {
            if let Some((name, value)) = word.split_once('=') {
                words.options.insert(name, value);
            } else if let Some(line) = word.split_once(':') {
                words.lines.push(line);
            } else {
                words.plain.push(word);
            }
        }
        words
    }

    /// The next word that is neither an option nor a line.
    pub(super) fn next(&mut self) -> Result<&'a str, Fault> {
        if self.plain.is_empty() {
            return Err("a word is missing".into());
        }
        Ok(self.plain.remove(0))
    }

    /// Whether the word is there.
    pub(super) fn flag(&mut self, word: &str) -> bool {
        let at = self.plain.iter().position(|plain| *plain == word);
        at.map(|at| self.plain.remove(at)).is_some()
    }

    pub(super) fn option(&mut self, name: &str) -> Option<&'a str> {
        self.options.remove(name)
    }

    pub(super) fn quantity(&mut self, name: &str) -> Result<Option<Quantity>, Fault> {
        self.option(name).map(quantity).transpose()
    }

    /// The lines as a basket; none if there is none.
    pub(super) fn basket(&mut self) -> Result<Option<Basket>, Fault> {
        let mut lines = Vec::new();
        for (name, units) in self.lines.drain(..) {
            lines.push((item(name)?, quantity(units)?));
        }
        if lines.is_empty() {
            return Ok(None);
        }
        Basket::new(lines).map(Some).map_err(|invalid| invalid.to_string())
    }

    /// All words must have been taken.
    pub(super) fn finish(self) -> Result<(), Fault> {
        let rest = (self.plain.is_empty(), self.lines.is_empty(), self.options.is_empty());
        if rest == (true, true, true) { Ok(()) } else { Err(format!("unknown word in {self:?}")) }
    }
}

/// `MUG`, or `MUG@north`.
pub(super) fn item(name: &str) -> Result<ItemKey, Fault> {
    let (sku, location) = name.split_once('@').unwrap_or((name, "default"));
    let sku = Sku::new(sku).map_err(|invalid| invalid.to_string())?;
    let location = location.parse().map_err(|_| "no location".to_owned())?;
    Ok(ItemKey { sku, location })
}

/// An item as it is written in scenarios.
pub(super) fn item_name(item: &ItemKey) -> String {
    if item.location.as_str() == "default" { item.sku.to_string() } else { item.to_string() }
}

pub(super) fn quantity(text: &str) -> Result<Quantity, Fault> {
    if text == "max" {
        return Ok(Quantity::MAX);
    }
    let units = text.parse().map_err(|_| format!("{text} is no quantity"))?;
    Quantity::new(units).map_err(|out_of_range| out_of_range.to_string())
}

/// `30s`, `29.5s`, `100ms`, `15m`, `14m50s`, in milliseconds.
pub(super) fn millis(text: &str) -> Result<i64, Fault> {
    try_millis(text).ok_or_else(|| format!("{text} is no time"))
}

fn try_millis(text: &str) -> Option<i64> {
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().ok();
    }
    let (minutes, rest) = match text.split_once('m') {
        Some((minutes, rest)) => (minutes.parse::<i64>().ok()?, rest),
        None => (0, text),
    };
    if rest.is_empty() && text.ends_with('m') {
        return Some(minutes * 60_000);
    }
    let seconds = rest.strip_suffix('s')?;
    let (whole, tenth) = seconds.split_once('.').unwrap_or((seconds, "0"));
    if tenth.len() != 1 {
        return None;
    }
    let tenths = whole.parse::<i64>().ok()? * 10 + tenth.parse::<i64>().ok()?;
    Some(minutes * 60_000 + tenths * 100)
}

/// A fact in the one form in which facts are compared.
pub(super) fn canonical(fact: &str) -> String {
    let Some((name, value)) = fact.split_once('=') else { return fact.to_owned() };
    let value = match (value, try_millis(value)) {
        ("max", _) => Quantity::MAX.to_string(),
        (_, Some(millis)) => time(Timestamp::from_millis(millis)),
        _ => value.to_owned(),
    };
    format!("{name}={value}")
}

/// A time as facts say it.
pub(super) fn time(at: Timestamp) -> String {
    format!("{}ms", at.as_millis())
}
