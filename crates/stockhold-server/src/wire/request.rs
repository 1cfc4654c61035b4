//! The JSON of requests about holds, parsed into what the engine takes.
//!
//! Unknown and duplicate fields are refused: a typing error in `reference` must not become a hold
//! without one. `null` counts as left out.

use serde::Deserialize;
use stockhold::{
    Basket, ConfirmRequest, IdempotencyKey, InvalidBasket, ItemKey, PlaceRequest, Reason, Ttl,
};
use utoipa::ToSchema;

use super::field::{
    HoldIdWord, LocationWord, Millis, Object, OwnerWord, Positive, ReasonWord, ReferenceWord,
    SkuWord, WhenExpired, Word,
};
use crate::problem::{Kind, Problem};

/// What to hold, for whom and for how long.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Place)]
pub(crate) struct PlaceBody {
    /// Whom it is for.
    owner: OwnerWord,
    /// For how long; clamped into the shop's range, left out: the shop's default. The answer says
    /// what was granted.
    ttl_ms: Option<Millis>,
    /// What to hold. The same item given twice is summed.
    #[schema(value_type = Vec<LineBody>, min_items = 1)]
    lines: Lines,
    /// A hold of the same owner to give back in the same step.
    replaces: Option<HoldIdWord>,
    /// The shop's own mark.
    reference: Option<ReferenceWord>,
}

impl PlaceBody {
    /// What the engine is asked.
    pub(crate) fn request(self, key: Option<IdempotencyKey>) -> Result<PlaceRequest, Problem> {
        Ok(PlaceRequest {
            owner: self.owner.0,
            lines: basket(self.lines)?,
            ttl: self.ttl_ms.map(|millis| millis.0),
            replaces: word(self.replaces),
            reference: word(self.reference),
            key,
        })
    }
}

/// How to confirm. Left out: all that was asked for, or fail if the hold has died.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Confirm)]
pub(crate) struct ConfirmBody {
    /// What to confirm; left out: all that was asked for. The rest is released.
    #[schema(value_type = Option<Vec<LineBody>>, min_items = 1)]
    lines: Option<Lines>,
    /// What to do if the hold has died; left out: fail.
    on_expired: Option<WhenExpired>,
    /// Replaces the hold's own reference.
    reference: Option<ReferenceWord>,
}

impl ConfirmBody {
    /// What the engine is asked.
    pub(crate) fn request(self, key: Option<IdempotencyKey>) -> Result<ConfirmRequest, Problem> {
        Ok(ConfirmRequest {
            lines: self.lines.map(basket).transpose()?,
            on_expired: self.on_expired.map(|choice| choice.0).unwrap_or_default(),
            reference: word(self.reference),
            key,
        })
    }
}

/// Why a hold is given back.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Release)]
pub(crate) struct ReleaseBody {
    /// Why, for people.
    reason: Option<ReasonWord>,
}

impl ReleaseBody {
    pub(crate) fn reason(self) -> Option<Reason> {
        word(self.reason)
    }
}

/// How long a hold is to live from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Extend)]
pub(crate) struct ExtendBody {
    /// Life from now on; never shortens it.
    ttl_ms: Millis,
}

impl ExtendBody {
    pub(crate) fn ttl(self) -> Ttl {
        self.ttl_ms.0
    }
}

/// Which units to ship or to cancel.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OpenLines)]
pub(crate) struct OpenLinesBody {
    /// Which; left out: all that are open. With lines an idempotency key is needed.
    #[schema(value_type = Option<Vec<LineBody>>, min_items = 1)]
    lines: Option<Lines>,
}

impl OpenLinesBody {
    pub(crate) fn lines(self) -> Result<Option<Basket>, Problem> {
        self.lines.map(basket).transpose()
    }
}

/// Why a hold is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Revoke)]
pub(crate) struct RevokeBody {
    /// Why, for people.
    reason: ReasonWord,
}

impl RevokeBody {
    pub(crate) fn reason(self) -> Reason {
        self.reason.0
    }
}

type Lines = Vec<Object<LineBody>>;

/// Units of one item.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LineAsked)]
pub(crate) struct LineBody {
    /// Of which SKU.
    sku: SkuWord,
    /// Where they lie; left out: `default`.
    location: Option<LocationWord>,
    /// How many.
    quantity: Positive,
}

fn basket(lines: Lines) -> Result<Basket, Problem> {
    let line = |Object(LineBody { sku, location, quantity })| {
        (ItemKey { sku: sku.0, location: word(location).unwrap_or_default() }, quantity.0)
    };
    Basket::new(lines.into_iter().map(line)).map_err(|invalid| match invalid {
        InvalidBasket::Empty => Problem::field("lines", invalid),
        InvalidBasket::NotPositive { index } => {
            Problem::field(format!("lines[{index}].quantity"), "must be at least 1")
        }
        InvalidBasket::OutOfRange { index } => {
            let field = format!("lines[{index}].quantity");
            let fault = "takes the sum of its item beyond 9007199254740991";
            Problem::new(Kind::OutOfRange, format!("{field} {fault}")).or_field(field)
        }
    })
}

/// What a word that may be left out says.
pub(super) fn word<T>(word: Option<Word<T>>) -> Option<T> {
    word.map(|word| word.0)
}
