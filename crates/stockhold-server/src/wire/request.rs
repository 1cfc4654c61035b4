//! The JSON of requests, parsed into what the engine takes.
//!
//! Unknown and duplicate fields are refused: a typing error in `reference` must not become a hold
//! without one. `null` counts as left out.

use serde::Deserialize;
use stockhold::{
    Adjustment, Basket, ConfirmRequest, HoldId, IdempotencyKey, InvalidBasket, ItemKey, Location,
    Owner, PlaceRequest, Quantity, Reason, Reference, Sku, Ttl,
};

use super::field::{Millis, Object, Units, WhenExpired, Word, parse};
use crate::problem::Problem;

/// Any number of units, also less than none.
type AnyUnits = Units<{ Quantity::MIN.get() }>;

/// Reads the body of `POST /v1/holds`.
pub(crate) fn place_request(
    body: &[u8],
    key: Option<IdempotencyKey>,
) -> Result<PlaceRequest, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        owner: Word<Owner>,
        ttl_ms: Option<Millis>,
        lines: Lines,
        replaces: Option<Word<HoldId>>,
        reference: Option<Word<Reference>>,
    }
    let Body { owner, ttl_ms, lines, replaces, reference } = parse(body)?;
    Ok(PlaceRequest {
        owner: owner.0,
        lines: basket(lines)?,
        ttl: ttl_ms.map(|millis| millis.0),
        replaces: word(replaces),
        reference: word(reference),
        key,
    })
}

/// Reads the body of `POST /v1/holds/{id}/confirm`, which may be left out.
pub(crate) fn confirm_request(
    body: Option<&[u8]>,
    key: Option<IdempotencyKey>,
) -> Result<ConfirmRequest, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        lines: Option<Lines>,
        on_expired: Option<WhenExpired>,
        reference: Option<Word<Reference>>,
    }
    let Body { lines, on_expired, reference } = body.map(parse).transpose()?.unwrap_or_default();
    Ok(ConfirmRequest {
        lines: lines.map(basket).transpose()?,
        on_expired: on_expired.map(|choice| choice.0).unwrap_or_default(),
        reference: word(reference),
        key,
    })
}

/// Reads the body of `POST /v1/holds/{id}/release`, which may be left out.
pub(crate) fn release_reason(body: Option<&[u8]>) -> Result<Option<Reason>, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        reason: Option<Word<Reason>>,
    }
    let Body { reason } = body.map(parse).transpose()?.unwrap_or_default();
    Ok(word(reason))
}

/// Reads the body of `POST /v1/holds/{id}/extend`.
pub(crate) fn extend_ttl(body: &[u8]) -> Result<Ttl, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        ttl_ms: Millis,
    }
    let Body { ttl_ms } = parse(body)?;
    Ok(ttl_ms.0)
}

/// Reads the body of `PUT /v1/stock/{sku}`: `on_hand` and `safety_stock`.
pub(crate) fn policy(body: &[u8]) -> Result<(Option<Quantity>, Option<Quantity>), Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        on_hand: Option<Units<0>>,
        safety_stock: Option<Units<0>>,
    }
    let Body { on_hand, safety_stock } = parse(body)?;
    Ok((on_hand.map(|units| units.0), safety_stock.map(|units| units.0)))
}

/// Reads the body of `POST /v1/stock/{sku}/adjustments`: one of three sorts, told apart by the
/// number that they carry.
pub(crate) fn adjustment(body: &[u8]) -> Result<Adjustment, Problem> {
    let body: AdjustmentBody = parse(body)?;
    match (&body.delta, &body.count, &body.receive) {
        (Some(_), None, None) => body.delta(),
        (None, Some(_), None) => body.count(),
        (None, None, Some(_)) => body.receive(),
        (None, None, None) => Err(Problem::field("delta", "or count or receive must be given")),
        (Some(_), _, _) => Err(Problem::field("delta", "goes with neither count nor receive")),
        (None, Some(_), Some(_)) => Err(Problem::field("count", "does not go with receive")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentBody {
    delta: Option<AnyUnits>,
    count: Option<Units<0>>,
    receive: Option<Units<1>>,
    reason: Option<Word<Reason>>,
    reference: Option<Word<Reference>>,
    min_available: Option<AnyUnits>,
    if_on_hand: Option<AnyUnits>,
}

impl AdjustmentBody {
    fn delta(self) -> Result<Adjustment, Problem> {
        foreign("reference", self.reference.is_some(), "delta")?;
        foreign("if_on_hand", self.if_on_hand.is_some(), "delta")?;
        let delta = given("delta", self.delta)?.0;
        let reason = given("reason", self.reason)?.0;
        let min_available = self.min_available.map(|units| units.0);
        Ok(Adjustment::Delta { delta, reason, min_available })
    }

    fn count(self) -> Result<Adjustment, Problem> {
        foreign("reference", self.reference.is_some(), "count")?;
        foreign("min_available", self.min_available.is_some(), "count")?;
        let count = given("count", self.count)?.0;
        let reason = given("reason", self.reason)?.0;
        let if_on_hand = self.if_on_hand.map(|units| units.0);
        Ok(Adjustment::Count { count, reason, if_on_hand })
    }

    fn receive(self) -> Result<Adjustment, Problem> {
        foreign("reason", self.reason.is_some(), "receive")?;
        foreign("min_available", self.min_available.is_some(), "receive")?;
        foreign("if_on_hand", self.if_on_hand.is_some(), "receive")?;
        let units = given("receive", self.receive)?.0;
        Ok(Adjustment::Receive { units, reference: word(self.reference) })
    }
}

fn given<T>(field: &'static str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::field(field, "must be given"))
}

fn foreign(field: &'static str, is_given: bool, with: &str) -> Result<(), Problem> {
    if is_given {
        return Err(Problem::field(field, format_args!("does not go with {with}")));
    }
    Ok(())
}

type Lines = Vec<Object<LineBody>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineBody {
    sku: Word<Sku>,
    location: Option<Word<Location>>,
    quantity: Units<1>,
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
            let fault = "takes the sum of its item beyond 9007199254740991";
            Problem::field(format!("lines[{index}].quantity"), fault)
        }
    })
}

fn word<T>(word: Option<Word<T>>) -> Option<T> {
    word.map(|word| word.0)
}
