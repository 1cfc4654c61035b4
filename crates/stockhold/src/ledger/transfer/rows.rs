//! Rows on their way from one ledger to another, as they are stored: nothing is read into them.

/// Rows of one stage, in its order.
#[derive(Debug)]
pub(in crate::ledger) struct Chunk {
    pub(in crate::ledger) rows: Rows,
    /// The last one, as a mark has it; none if there is no row.
    pub(in crate::ledger) last: Option<String>,
}

#[derive(Debug)]
pub(in crate::ledger) enum Rows {
    Stock(Vec<StockRow>),
    Carried(Vec<CarriedRow>),
    Movements(Vec<MovementRow>),
    Holds(Vec<HoldRow>),
    Keys(Vec<KeyRow>),
}

#[derive(Debug)]
pub(in crate::ledger) struct StockRow {
    pub(in crate::ledger) item: i64,
    pub(in crate::ledger) sku: String,
    pub(in crate::ledger) location: String,
    /// In the order of the columns, from `on_hand` to `touched_at`.
    pub(in crate::ledger) values: [i64; 7],
}

#[derive(Debug)]
pub(in crate::ledger) struct CarriedRow {
    pub(in crate::ledger) item: i64,
    pub(in crate::ledger) shipped: i64,
}

#[derive(Debug)]
pub(in crate::ledger) struct MovementRow {
    pub(in crate::ledger) id: i64,
    pub(in crate::ledger) item: i64,
    pub(in crate::ledger) kind: String,
    pub(in crate::ledger) delta: i64,
    pub(in crate::ledger) on_hand_after: i64,
    pub(in crate::ledger) reason: Option<String>,
    pub(in crate::ledger) reference: Option<String>,
    pub(in crate::ledger) at: i64,
}

#[derive(Debug)]
pub(in crate::ledger) struct HoldRow {
    pub(in crate::ledger) id: [u8; 16],
    pub(in crate::ledger) owner: String,
    pub(in crate::ledger) reference: Option<String>,
    /// From `created_at` to `max_deadline`.
    pub(in crate::ledger) times: [i64; 3],
    pub(in crate::ledger) replaced_by: Option<[u8; 16]>,
    /// Its lines: numbers of items, and units.
    pub(in crate::ledger) items: Vec<i64>,
    pub(in crate::ledger) units: Vec<i64>,
    pub(in crate::ledger) steps: Vec<StepRow>,
}

impl HoldRow {
    /// The first thing that happens to a hold ends it.
    pub(in crate::ledger) fn is_active(&self) -> bool {
        self.steps.is_empty()
    }
}

#[derive(Debug)]
pub(in crate::ledger) struct StepRow {
    pub(in crate::ledger) n: i32,
    pub(in crate::ledger) step: String,
    pub(in crate::ledger) at: i64,
    pub(in crate::ledger) reference: Option<String>,
    pub(in crate::ledger) reason: Option<String>,
    /// Lines and units, if not all that it could move.
    pub(in crate::ledger) lines: Vec<i64>,
    pub(in crate::ledger) units: Vec<i64>,
}

#[derive(Debug)]
pub(in crate::ledger) struct KeyRow {
    pub(in crate::ledger) key: [u8; 16],
    pub(in crate::ledger) digest: [u8; 16],
    pub(in crate::ledger) hold: Option<[u8; 16]>,
    pub(in crate::ledger) movement: Option<i64>,
    pub(in crate::ledger) at: i64,
}

/// What is known of the ledger as a whole: when it was last alive, and its graces (R17).
#[derive(Debug)]
pub(in crate::ledger) struct Life {
    pub(in crate::ledger) alive_at: i64,
    /// from, to, until
    pub(in crate::ledger) graces: Vec<[i64; 3]>,
}

impl Chunk {
    pub(in crate::ledger) fn nothing() -> Self {
        Self { rows: Rows::Stock(Vec::new()), last: None }
    }

    pub(in crate::ledger) fn of<T>(
        rows: Vec<T>,
        as_rows: fn(Vec<T>) -> Rows,
        name: impl Fn(&T) -> String,
    ) -> Self {
        let last = rows.last().map(name);
        Self { rows: as_rows(rows), last }
    }

    pub(in crate::ledger) fn len(&self) -> usize {
        match &self.rows {
            Rows::Stock(rows) => rows.len(),
            Rows::Carried(rows) => rows.len(),
            Rows::Movements(rows) => rows.len(),
            Rows::Holds(rows) => rows.len(),
            Rows::Keys(rows) => rows.len(),
        }
    }
}

/// A mark for rows that are numbered; before the first there is none.
pub(in crate::ledger) fn number(after: &str) -> i64 {
    after.parse().unwrap_or(i64::MIN)
}

/// A mark for rows that have ids of 16 bytes; nothing is lower than no bytes at all.
pub(in crate::ledger) fn bytes(after: &str) -> Vec<u8> {
    uuid::Uuid::parse_str(after).map(|id| id.as_bytes().to_vec()).unwrap_or_default()
}

pub(in crate::ledger) fn hex(id: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(id).to_string()
}
