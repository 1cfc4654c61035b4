//! Queries in URLs: like fields, unknown and duplicate names are refused.

use std::{borrow::Cow, time::Duration};

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use stockhold::{Location, Quantity};

use super::word;
use crate::problem::Problem;

/// What can be asked besides the name of an item.
#[derive(Debug, Default)]
pub(crate) struct ItemQuery {
    /// Where the item lies.
    pub(crate) location: Option<Location>,
    /// How fresh the answer has to be.
    pub(crate) freshness: Freshness,
}

/// How fresh an answer has to be. What no copy is kept of is always from the ledger.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    consistency: Option<Consistency>,
    max_age_ms: Option<MaxAge>,
}

impl Freshness {
    /// Whether a copy may answer, and how old it may be.
    pub(crate) fn copy(&self) -> Option<Option<Duration>> {
        let may = matches!(self.consistency, Some(Consistency::Cached));
        may.then(|| self.max_age_ms.as_ref().map(|age| age.0))
    }

    /// Takes what is said of it; nothing else is known any more.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "consistency" => set(&mut self.consistency, "consistency", consistency(value)?),
            "max_age_ms" => set(&mut self.max_age_ms, "max_age_ms", max_age(value)?),
            _ => Err(unknown(name)),
        }
    }
}

impl ItemQuery {
    /// Reads the query of a verb that changes an item.
    pub(crate) fn to_change(uri: &Uri) -> Result<Self, Problem> {
        let mut query = Self::default();
        each_pair(uri, |name, value| match name {
            "location" => set(&mut query.location, "location", word("location", value)?),
            _ => Err(unknown(name)),
        })?;
        Ok(query)
    }

    /// Reads the query of a read.
    pub(crate) fn to_read(uri: &Uri) -> Result<Self, Problem> {
        let mut query = Self::default();
        each_pair(uri, |name, value| match name {
            "location" => set(&mut query.location, "location", word("location", value)?),
            _ => query.freshness.take(name, value),
        })?;
        Ok(query)
    }
}

/// For paths that take no query.
pub(crate) fn refuse_query(uri: &Uri) -> Result<(), Problem> {
    each_pair(uri, |name, _| Err(unknown(name)))
}

/// Whether a copy may answer.
#[derive(Debug)]
pub(crate) enum Consistency {
    Strong,
    Cached,
}

fn consistency(word: &str) -> Result<Consistency, Problem> {
    match word {
        "strong" => Ok(Consistency::Strong),
        "cached" => Ok(Consistency::Cached),
        _ => Err(Problem::field("consistency", "must be strong or cached")),
    }
}

/// How old a copy may be.
#[derive(Debug)]
pub(crate) struct MaxAge(Duration);

fn max_age(text: &str) -> Result<MaxAge, Problem> {
    let millis = number("max_age_ms", text, 0, Quantity::MAX.get())?;
    Ok(MaxAge(Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
}

/// An integer within bounds, in digits.
pub(super) fn number(
    name: &'static str,
    text: &str,
    least: i64,
    most: i64,
) -> Result<i64, Problem> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|n| digits && (least..=most).contains(n));
    number.ok_or_else(|| {
        Problem::field(name, format_args!("must be an integer from {least} to {most}"))
    })
}

pub(super) fn set<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(Problem::field(name, "must be given once only"));
    }
    Ok(())
}

pub(super) fn unknown(name: &str) -> Problem {
    const LONGEST: usize = 200;
    let name: String = name.chars().take(LONGEST).collect();
    Problem::field(name, "is not known in the query of this path")
}

pub(super) fn each_pair(
    uri: &Uri,
    mut take: impl FnMut(&str, &str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        take(&decoded(name)?, &decoded(value)?)?;
    }
    Ok(())
}

fn decoded(text: &str) -> Result<Cow<'_, str>, Problem> {
    let no_utf8 = |_| Problem::field("query", "must be UTF-8, percent-encoded");
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let text = percent_decode_str(&spaced).decode_utf8().map_err(no_utf8)?;
        return Ok(Cow::Owned(text.into_owned()));
    }
    percent_decode_str(text).decode_utf8().map_err(no_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Option<String>, Problem> {
        let uri = format!("/v1/stock/MUG?{query}").parse().unwrap();
        let query = ItemQuery::to_read(&uri)?;
        Ok(query.location.map(|location| location.as_str().to_owned()))
    }

    #[test]
    fn a_query_is_decoded() {
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("location=a%20b").unwrap().as_deref(), Some("a b"));
        assert_eq!(read("location=a+b&").unwrap().as_deref(), Some("a b"));
        assert_eq!(read("consistency=cached&max_age_ms=250").unwrap(), None);
    }

    #[test]
    fn a_copy_may_answer_only_who_says_so() {
        let copy = |query: &str| {
            let uri = format!("/v1/stock/MUG?{query}").parse().unwrap();
            ItemQuery::to_read(&uri).unwrap().freshness.copy()
        };
        assert_eq!(
            (copy(""), copy("consistency=strong"), copy("max_age_ms=5")),
            (None, None, None)
        );
        assert_eq!(copy("consistency=cached"), Some(None));
        let bound = Some(Some(Duration::from_millis(250)));
        assert_eq!(copy("max_age_ms=250&consistency=cached"), bound);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for query in ["location=%FF", "location=", "a=1", "location=a&location=b", "max_age_ms=-1"]
        {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
