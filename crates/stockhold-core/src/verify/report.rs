//! What a verification has to say.

use std::fmt;

/// Of violations, and of warnings, this many are kept: whoever has more needs no list.
pub(super) const MOST_KEPT: usize = 1_000;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many stock items were seen.
    pub items: u64,
    /// How many holds were seen.
    pub holds: u64,
    /// How many movements were seen.
    pub movements: u64,
    /// The first 1,000 violations.
    pub violations: Vec<Violation>,
    /// How many violations there are, also those beyond the list. Of overdue holds only the
    /// 1,000 oldest are counted; a warning says so if there may be more.
    pub violations_found: u64,
    /// The first 1,000 things that are legitimate, but worth saying.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether no invariant is broken. Warnings do not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations_found == 0
    }
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// Of what: `item TEE-RED-M@default`, `hold 01927c1e-...`, `key 00ff...`.
    pub subject: String,
    /// The numbers: what was found, and what was expected.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.subject, self.detail)
    }
}

/// What is true in every committed state, by its number in the rules. I3 is not among them: rows
/// do not tell what was available when a hold was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No count of promised units, and no safety stock, is negative.
    I1,
    /// `held` and `allocated` of an item are the sums of its holds.
    I2,
    /// `on_hand` is the sum of the movements, at every movement; and what they ship is what the
    /// holds have shipped.
    I4,
    /// Every unit of a line is in exactly one place; a step moves only units that are there.
    I5,
    /// No more units were sold than ever came in.
    I6,
    /// The history of a hold is numbered without gaps, legal, and in order of time.
    I7,
    /// `lent` is the sum of the escrow accounts, of which there are none.
    I8,
    /// Holds that are over are expired soon.
    I9,
    /// Rows fit together: none points nowhere, none is there twice, all words are known.
    Rows,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::I1,
        Self::I2,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::Rows,
    ];

    /// Its number in the rules, or `rows`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I4 => "I4",
            Self::I5 => "I5",
            Self::I6 => "I6",
            Self::I7 => "I7",
            Self::I8 => "I8",
            Self::I9 => "I9",
            Self::Rows => "rows",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found so far. Texts are made only of what is kept.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) violations: Vec<Violation>,
    pub(super) violations_found: u64,
    pub(super) warnings: Vec<String>,
}

impl Findings {
    pub(super) fn violation(
        &mut self,
        invariant: Invariant,
        subject: fmt::Arguments<'_>,
        detail: fmt::Arguments<'_>,
    ) {
        self.violations_found = self.violations_found.saturating_add(1);
        if self.violations.len() < MOST_KEPT {
            let (subject, detail) = (subject.to_string(), detail.to_string());
            self.violations.push(Violation { invariant, subject, detail });
        }
    }

    pub(super) fn rows(&mut self, subject: fmt::Arguments<'_>, detail: fmt::Arguments<'_>) {
        self.violation(Invariant::Rows, subject, detail);
    }

    pub(super) fn warning(&mut self, text: fmt::Arguments<'_>) {
        if self.warnings.len() < MOST_KEPT {
            self.warnings.push(text.to_string());
        }
    }
}
