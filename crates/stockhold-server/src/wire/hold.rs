//! A hold as it is sent.

use serde::{Serialize, Serializer};
use stockhold::{HoldId, HoldView, Line, Timestamp};
use utoipa::ToSchema;

use super::{
    Written,
    field::{
        HoldIdWord, LocationWord, NotNegative, OwnerWord, Positive, ReferenceWord, SkuWord, Units,
    },
    moment::{Asked, Rfc3339, millis},
    schema::State,
};

/// A hold as it was when the answer was written.
#[derive(Serialize, ToSchema)]
#[schema(as = Hold)]
pub(crate) struct HoldBody<'a> {
    #[schema(value_type = HoldIdWord)]
    id: Written<HoldId>,
    #[schema(value_type = State)]
    state: &'a str,
    #[schema(value_type = OwnerWord)]
    owner: &'a str,
    #[schema(value_type = Option<ReferenceWord>, required)]
    reference: Option<&'a str>,
    created_at: Rfc3339,
    /// When the hold dies, if nothing else happens to it; past if it has ended.
    expires_at: Rfc3339,
    /// How long it lives from `server_time` on: count with this, not with your own clock.
    #[schema(maximum = 9007199254740991_u64)]
    expires_in_ms: u64,
    /// The deadline that no extend can pass.
    max_expires_at: Rfc3339,
    server_time: Rfc3339,
    #[schema(value_type = Vec<LineBody<'_>>)]
    lines: Lines<'a>,
    /// The confirm took the units a second time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    reacquired: Option<bool>,
}

impl<'a> HoldBody<'a> {
    /// As it is, some time after it was asked for.
    pub(crate) fn since(view: &'a HoldView, asked: Asked) -> Self {
        Self::when(view, view.as_of.after(asked.elapsed()))
    }

    /// As it stood when the ledger was asked.
    pub(crate) fn at(view: &'a HoldView) -> Self {
        Self::when(view, view.as_of)
    }

    /// The same, of a confirm that may have taken the units a second time.
    pub(crate) fn reacquired(mut self, is_so: bool) -> Self {
        self.reacquired = is_so.then_some(true);
        self
    }

    fn when(view: &'a HoldView, server_time: Timestamp) -> Self {
        let HoldView { hold, expires_at, .. } = view;
        Self {
            id: Written(hold.id),
            state: hold.state.as_str(),
            owner: hold.owner.as_str(),
            reference: hold.reference.as_ref().map(|reference| reference.as_str()),
            created_at: Rfc3339(hold.created_at),
            expires_at: Rfc3339(*expires_at),
            expires_in_ms: millis(expires_at.since(server_time)),
            max_expires_at: Rfc3339(hold.max_deadline),
            server_time: Rfc3339(server_time),
            lines: Lines(&hold.lines),
            reacquired: None,
        }
    }

    /// About how many bytes it takes.
    pub(super) fn room(&self) -> usize {
        const HEAD: usize = 384;
        const LINE: usize = 192;
        self.lines.0.len().saturating_mul(LINE).saturating_add(HEAD)
    }
}

struct Lines<'a>(&'a [Line]);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(LineBody::of))
    }
}

/// A line of a hold: an item, and what became of the units that were asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = Line)]
struct LineBody<'a> {
    #[schema(value_type = SkuWord)]
    sku: &'a str,
    #[schema(value_type = LocationWord)]
    location: &'a str,
    /// The sum of held, confirmed, released, expired and revoked.
    requested: Positive,
    held: NotNegative,
    confirmed: NotNegative,
    released: NotNegative,
    expired: NotNegative,
    revoked: NotNegative,
    /// Of the confirmed units, those that left the house.
    shipped: NotNegative,
    /// Of the confirmed units, those that went back to sale.
    cancelled: NotNegative,
}

impl<'a> LineBody<'a> {
    fn of(line: &'a Line) -> Self {
        Self {
            sku: line.item.sku.as_str(),
            location: line.item.location.as_str(),
            requested: Units(line.requested),
            held: Units(line.held),
            confirmed: Units(line.confirmed),
            released: Units(line.released),
            expired: Units(line.expired),
            revoked: Units(line.revoked),
            shipped: Units(line.shipped),
            cancelled: Units(line.cancelled),
        }
    }
}
