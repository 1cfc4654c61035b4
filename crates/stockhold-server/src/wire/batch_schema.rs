//! The schema of a batch: each verb's own body, and what stands around it.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, OneOfBuilder, RefOr, Schema, Type,
        schema::AdditionalProperties,
    },
};

use super::{
    AdjustmentBody, ConfirmBody, ExtendBody, HoldBody, ItemBody, MovedBody, OpenLinesBody,
    PlaceBody, PolicyBody, ReleaseBody, RevokeBody,
    batch::{Address, BatchBody, MOST, Op},
    field::{HoldIdWord, KeyWord, LocationWord, SkuWord},
    schema::{choice, integer, nullable, refer, typed},
};
use crate::{openapi::problem_of, problem::Kind};

type Schemas = Vec<(String, RefOr<Schema>)>;

impl PartialSchema for BatchBody {
    fn schema() -> RefOr<Schema> {
        let items =
            Op::ALL.into_iter().flat_map(items).fold(OneOfBuilder::new(), OneOfBuilder::item);
        typed(Type::Object)
            .description(Some("Verbs that are done in order, each by itself."))
            .property("items", ArrayBuilder::new().items(items).max_items(Some(MOST)))
            .required("items")
            .into()
    }
}

impl ToSchema for BatchBody {
    fn name() -> Cow<'static, str> {
        "Batch".into()
    }

    fn schemas(schemas: &mut Schemas) {
        PlaceBody::schemas(schemas);
        ConfirmBody::schemas(schemas);
        AdjustmentBody::schemas(schemas);
        add::<HoldIdWord>(schemas);
        add::<SkuWord>(schemas);
        add::<LocationWord>(schemas);
        add::<KeyWord>(schemas);
    }
}

/// The answers, in the order of the items.
pub(crate) struct BatchAnswerBody;

impl PartialSchema for BatchAnswerBody {
    fn schema() -> RefOr<Schema> {
        let done = OneOfBuilder::new()
            .item(refer::<HoldBody<'_>>())
            .item(refer::<MovedBody<'_>>())
            .item(refer::<ItemBody<'_>>());
        let body = OF_A_BATCH.iter().fold(done, |all, kind| all.item(problem_of(*kind)));
        let item = typed(Type::Object)
            .property("status", integer("As it would be of the verb alone.", 200, 599))
            .required("status")
            .property("body", body)
            .required("body");
        typed(Type::Object)
            .property("items", ArrayBuilder::new().items(closed(item)).max_items(Some(MOST)))
            .required("items")
            .into()
    }
}

impl ToSchema for BatchAnswerBody {
    fn name() -> Cow<'static, str> {
        "BatchAnswer".into()
    }

    fn schemas(schemas: &mut Schemas) {
        add::<HoldBody<'_>>(schemas);
        add::<MovedBody<'_>>(schemas);
        add::<ItemBody<'_>>(schemas);
    }
}

/// What an item of a batch may be refused with.
const OF_A_BATCH: [Kind; 30] = [
    Kind::InvalidJson,
    Kind::InvalidField,
    Kind::IdempotencyKeyRequired,
    Kind::TooManyLines,
    Kind::QuantityTooLarge,
    Kind::OutOfRange,
    Kind::Forbidden,
    Kind::NotFound,
    Kind::UnknownSku,
    Kind::InsufficientStock,
    Kind::AlreadyConfirmed,
    Kind::AlreadyReleased,
    Kind::Revoked,
    Kind::AlreadyCancelled,
    Kind::AlreadyShipped,
    Kind::NotConfirmed,
    Kind::NothingOpen,
    Kind::MaxLifetime,
    Kind::AlreadyExists,
    Kind::WouldGoBelow,
    Kind::OnHandDiffers,
    Kind::HoldEnded,
    Kind::HoldExpired,
    Kind::NotInHold,
    Kind::MoreThanHeld,
    Kind::MoreThanOpen,
    Kind::IdempotencyKeyReused,
    Kind::Overloaded,
    Kind::Internal,
    Kind::Unavailable,
];

/// The item of a verb: the body of its route, and the fields around it.
fn items(op: Op) -> Vec<ObjectBuilder> {
    let bodies = match body(op) {
        RefOr::T(Schema::OneOf(sorts)) => sorts.items,
        body => vec![body],
    };
    bodies.into_iter().filter_map(|body| around(op, body)).collect()
}

fn body(op: Op) -> RefOr<Schema> {
    match op {
        Op::Place => PlaceBody::schema(),
        Op::Confirm => ConfirmBody::schema(),
        Op::Release => ReleaseBody::schema(),
        Op::Extend => ExtendBody::schema(),
        Op::Ship | Op::Cancel => OpenLinesBody::schema(),
        Op::Revoke => RevokeBody::schema(),
        Op::Adjust => AdjustmentBody::schema(),
        Op::SetPolicy => PolicyBody::schema(),
    }
}

fn around(op: Op, body: RefOr<Schema>) -> Option<ObjectBuilder> {
    let RefOr::T(Schema::Object(body)) = body else { return None };
    let mut item =
        ObjectBuilder::from(body).property("op", choice("The verb.", [op.as_str()])).required("op");
    if op.is_keyed() {
        item = item.property("idempotency_key", nullable::<KeyWord>());
    }
    Some(match op.address() {
        Address::None => item,
        Address::Hold => item.property("id", refer::<HoldIdWord>()).required("id"),
        Address::Item => item
            .property("sku", refer::<SkuWord>())
            .required("sku")
            .property("location", nullable::<LocationWord>()),
    })
}

fn closed(object: ObjectBuilder) -> ObjectBuilder {
    object.additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}
