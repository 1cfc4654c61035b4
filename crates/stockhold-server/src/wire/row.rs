//! The rows of lists of stock that are loaded or written, and what is said of them.

use axum::http::Uri;
use serde::{Deserialize, Serialize};
use stockhold::{ItemKey, Load, LoadMode, Loaded, StockItem};
use utoipa::ToSchema;

use super::{
    Written,
    field::{AnyUnits, LocationWord, NotNegative, SkuWord, Units},
    list_query::FromQuery,
    query::{each_pair, set, unknown},
    request::word,
};
use crate::problem::Problem;

/// One row of a list that is loaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StockRowAsked)]
pub(crate) struct RowBody {
    sku: SkuWord,
    /// Where it lies; left out: `default`.
    location: Option<LocationWord>,
    /// What is there.
    #[schema(value_type = NotNegative)]
    on_hand: AnyUnits,
    /// How many are kept back from sale; left out: as it is, or none.
    safety_stock: Option<NotNegative>,
}

impl RowBody {
    /// The fields, as columns of CSV.
    pub(crate) const COLUMNS: [&'static str; 4] = ["sku", "location", "on_hand", "safety_stock"];
    /// Those that cannot be left out.
    pub(crate) const REQUIRED: [&'static str; 2] = ["sku", "on_hand"];
    /// Those that have numbers.
    pub(crate) const NUMBERS: [&'static str; 2] = ["on_hand", "safety_stock"];

    /// What the engine is asked.
    ///
    /// Less than none is not loaded: an export may say so of an item of which more was shipped than
    /// a count had found, and nobody can have counted it.
    pub(crate) fn load(self) -> Result<Load, Problem> {
        if self.on_hand.0.is_negative() {
            return Err(Problem::field("on_hand", LESS_THAN_NONE));
        }
        let item = ItemKey { sku: self.sku.0, location: word(self.location).unwrap_or_default() };
        let safety_stock = self.safety_stock.map(|units| units.0);
        Ok(Load { item, on_hand: self.on_hand.0, safety_stock })
    }
}

const LESS_THAN_NONE: &str = "must be at least 0: count the item, and write what is there";

/// One row of all stock.
#[derive(Serialize, ToSchema)]
#[schema(as = StockRow)]
pub(crate) struct StockRowBody<'a> {
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
    on_hand: AnyUnits,
    safety_stock: NotNegative,
}

impl<'a> StockRowBody<'a> {
    pub(crate) fn of(item: &'a StockItem) -> Self {
        Self {
            sku: item.key.sku.as_str(),
            location: item.key.location.as_str(),
            on_hand: Units(item.on_hand),
            safety_stock: Units(item.safety_stock),
        }
    }
}

/// A row that was not loaded.
#[derive(Serialize)]
pub(crate) struct BadRowBody<'a> {
    /// The number of its line, from 1; none if the list itself broke off.
    line: Option<u64>,
    error: Fault<'a>,
}

#[derive(Serialize)]
struct Fault<'a> {
    code: &'static str,
    detail: Written<&'a str>,
    field: Option<&'a str>,
}

impl<'a> BadRowBody<'a> {
    pub(crate) fn of(line: Option<u64>, problem: &'a Problem) -> Self {
        let (code, detail, field) = problem.told();
        Self { line, error: Fault { code, detail: Written(detail), field } }
    }
}

/// What became of a list.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ImportedBody {
    created: u64,
    counted: u64,
    unchanged: u64,
    bad: u64,
    lines: u64,
}

impl ImportedBody {
    pub(crate) fn add(&mut self, loaded: Loaded) {
        let count = match loaded {
            Loaded::Created => &mut self.created,
            Loaded::Counted => &mut self.counted,
            Loaded::Unchanged => &mut self.unchanged,
        };
        *count = count.saturating_add(1);
        self.lines = self.lines.saturating_add(1);
    }

    pub(crate) fn add_bad(&mut self) {
        self.bad = self.bad.saturating_add(1);
        self.lines = self.lines.saturating_add(1);
    }
}

/// How a list of stock is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Ndjson,
    Csv,
}

impl Format {
    pub(crate) const ALL: [Self; 2] = [Self::Ndjson, Self::Csv];

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

impl FromQuery for Format {
    fn from_query(uri: &Uri) -> Result<Self, Problem> {
        let mut format = None;
        each_pair(uri, |name, value| match (name, value) {
            ("format", "ndjson") => set(&mut format, "format", Self::Ndjson),
            ("format", "csv") => set(&mut format, "format", Self::Csv),
            ("format", _) => Err(Problem::field("format", "must be ndjson or csv")),
            _ => Err(unknown(name)),
        })?;
        Ok(format.unwrap_or(Self::Ndjson))
    }
}

impl FromQuery for LoadMode {
    fn from_query(uri: &Uri) -> Result<Self, Problem> {
        let mut mode = None;
        each_pair(uri, |name, value| match (name, value) {
            ("mode", "create") => set(&mut mode, "mode", Self::Create),
            ("mode", "count") => set(&mut mode, "mode", Self::Count),
            ("mode", _) => Err(Problem::field("mode", "must be create or count")),
            _ => Err(unknown(name)),
        })?;
        Ok(mode.unwrap_or(Self::Create))
    }
}
