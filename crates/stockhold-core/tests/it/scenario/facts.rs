//! Answers as lists of facts, and their comparison.

use std::{collections::BTreeMap, fmt};

use super::parse;

/// Facts about the whole, and facts about each item.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    whole: Vec<String>,
    items: BTreeMap<String, Vec<String>>,
}

/// Words that an expectation must not pass over.
const LOUD: [&str; 2] = ["replayed", "reacquired"];

impl Facts {
    pub(super) fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        let mut item = None;
        for word in text.split_whitespace() {
            if is_item(word) {
                facts.mention(word);
                item = Some(word.to_owned());
            } else {
                facts.push(item.as_deref(), parse::canonical(word));
            }
        }
        facts
    }

    fn push(&mut self, item: Option<&str>, fact: String) {
        match item {
            None => self.whole.push(fact),
            Some(item) => self.items.entry(item.to_owned()).or_default().push(fact),
        }
    }

    /// A fact about the whole.
    pub(super) fn say(&mut self, fact: impl Into<String>) -> &mut Self {
        self.whole.push(fact.into());
        self
    }

    /// A fact about an item.
    pub(super) fn of(&mut self, item: &str, name: &str, value: impl fmt::Display) -> &mut Self {
        self.push(Some(item), format!("{name}={value}"));
        self
    }

    /// That the answer is about this item, too.
    pub(super) fn mention(&mut self, item: &str) {
        self.items.entry(item.to_owned()).or_default();
    }

    /// A fact about an item that has no name.
    pub(super) fn of_plain(&mut self, item: &str, fact: impl Into<String>) -> &mut Self {
        self.push(Some(item), fact.into());
        self
    }

    /// Whether all that is expected is the case.
    pub(super) fn compare(&self, expected: &Self) -> Result<(), String> {
        let (first, wanted) = (self.whole.first(), expected.whole.first());
        if wanted.is_some_and(|word| word == "ok") && first != wanted {
            return Err("it was not ok".into());
        }
        all_in(&expected.whole, &self.whole)?;
        let passed_over = |word: &&&str| {
            let has = |facts: &[String]| facts.iter().any(|fact| fact == **word);
            has(&self.whole) && !has(&expected.whole)
        };
        if let Some(word) = LOUD.iter().find(passed_over) {
            return Err(format!("{word} is not mentioned"));
        }
        for (item, facts) in &expected.items {
            let known = self.items.get(item).ok_or_else(|| format!("nothing about {item}"))?;
            all_in(facts, known).map_err(|why| format!("{item}: {why}"))?;
        }
        let silent = self.items.keys().find(|item| !expected.items.contains_key(*item));
        match silent.filter(|_| !expected.items.is_empty()) {
            Some(item) => Err(format!("{item} is not mentioned")),
            None => Ok(()),
        }
    }
}

fn all_in(expected: &[String], facts: &[String]) -> Result<(), String> {
    match expected.iter().find(|fact| !facts.contains(fact)) {
        Some(fact) => Err(format!("not so: {fact}")),
        None => Ok(()),
    }
}

/// Items are written in capitals.
fn is_item(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase()) && !word.contains('=')
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.whole.join(" "))?;
        for (item, facts) in &self.items {
            write!(f, " {item} {}", facts.join(" "))?;
        }
        Ok(())
    }
}
