//! What the words and numbers on the wire look like, as JSON Schema says it.
//!
//! JSON Schema counts characters where the rules count bytes; for what is not ASCII the text of a
//! description says more than its numbers.

use std::borrow::Cow;

use stockhold::{
    HoldId, HoldState, IdempotencyKey, Location, LockName, MovementKind, Owner, Quantity, Reason,
    Reference, Sku, Ttl,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::{AdditionalProperties, KnownFormat, SchemaType},
    },
};

use super::{
    Cursor, Rfc3339,
    field::{
        AnyUnits, Millis, NotNegative, Positive, ReasonWord, ReferenceWord, Units, WhenExpired,
        Word,
    },
    list_query::{MOST, USUAL},
    lock::{LEASE_MILLIS, LeaseMillis, MOST_WAIT_MILLIS, TokenWord, WaitMillis},
    query::{Consistency, MaxAge},
    stock_request::AdjustmentBody,
};

/// Without control characters, without a space at either end, and not `.` or `..`.
const NAME: &str = r"^(?!\.{1,2}$)[^\u0000-\u0020\u007f-\u009f]([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u009f])?$";
/// Without control characters.
const TEXT: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
const VISIBLE_ASCII: &str = r"^[!-~]+$";
const UUID: &str = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
const HEX: &str = "^([0-9a-f]{2})+$";
const MOMENT: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$";

/// A word that has a name among the schemas.
pub(crate) trait Described {
    const NAME: &'static str;

    fn describe() -> ObjectBuilder;
}

macro_rules! described {
    ($($word:ty, $name:literal, $describe:expr;)+) => {
        $(impl Described for $word {
            const NAME: &'static str = $name;

            fn describe() -> ObjectBuilder {
                $describe
            }
        })+
    };
}

described! {
    Sku, "Sku", name("The shop's own identifier of a thing that is sold: 1-128 bytes of UTF-8.");
    Location, "Location", name("Where units lie: 1-128 bytes of UTF-8.");
    Owner, "Owner", name("Whom a hold belongs to, for example a cart: 1-128 bytes of UTF-8.");
    LockName, "LockName", name("What a lock is called: 1-128 bytes of UTF-8.");
    Reference, "Reference", text("The shop's own mark, for example an order number: up to 255 bytes.");
    Reason, "Reason", text("Why, for people: up to 255 bytes.");
    HoldId, "HoldId", string("The number of a hold, a UUID.", UUID).format(Some(custom("uuid")));
    IdempotencyKey, "IdempotencyKey", string(
        "The client's own name for a request, under which it may be sent again.", VISIBLE_ASCII,
    ).min_length(Some(1)).max_length(Some(255));
}

impl<T: Described> PartialSchema for Word<T> {
    fn schema() -> RefOr<Schema> {
        T::describe().into()
    }
}

impl<T: Described> ToSchema for Word<T> {
    fn name() -> Cow<'static, str> {
        T::NAME.into()
    }
}

impl<const LEAST: i64> PartialSchema for Units<LEAST> {
    fn schema() -> RefOr<Schema> {
        integer(
            "Units of a stock item, in the smallest unit of its SKU.",
            LEAST,
            Quantity::MAX.get(),
        )
        .into()
    }
}

impl<const LEAST: i64> ToSchema for Units<LEAST> {
    fn name() -> Cow<'static, str> {
        match LEAST {
            0 => "UnitsOrNone".into(),
            1 => "Units".into(),
            _ => "AnyUnits".into(),
        }
    }
}

macro_rules! schema {
    ($($type:ty, $name:literal, $schema:expr;)+) => {
        $(impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        })+
    };
}

schema! {
    Millis, "Millis", integer("A duration in milliseconds.", 1, most_millis());
    TokenWord, "LockToken", string("What tells one attempt to acquire a lock from another, and is shown to nobody.", VISIBLE_ASCII).min_length(Some(16)).max_length(Some(128));
    LeaseMillis, "LeaseMillis", integer("The life of a lease in milliseconds.", LEASE_MILLIS.0, LEASE_MILLIS.1);
    WaitMillis, "WaitMillis", integer("A wait in milliseconds.", 0, MOST_WAIT_MILLIS);
    LockPrefix, "LockPrefix", string("What names of locks begin with: up to 128 bytes of UTF-8.", TEXT).max_length(Some(128));
    WhenExpired, "OnExpired", choice("What to do if the hold has died: fail, or take the units again.", ["fail", "rehold"]);
    Rfc3339, "Moment", string("A moment in UTC with milliseconds, as RFC 3339 has it.", MOMENT).format(Some(known(KnownFormat::DateTime)));
    State, "HoldState", choice("Where a hold stands in its life.", HoldState::ALL.map(HoldState::as_str));
    Consistency, "Consistency", choice("Whether a copy may answer.", ["strong", "cached"]);
    MaxAge, "MaxAge", integer("A duration in milliseconds.", 0, Quantity::MAX.get());
    Cursor, "Cursor", string("The place of the next page; opaque.", HEX).min_length(Some(2)).max_length(Some(514));
    Prefix, "Prefix", string("What SKUs begin with: up to 128 bytes of UTF-8.", TEXT).max_length(Some(128));
    After, "After", integer("The number of a movement.", 0, Quantity::MAX.get());
    Limit, "Limit", integer("How many items a page may have.", 1, MOST).default(Some(USUAL.into()));
    ExportFormat, "ExportFormat", choice("How rows are written; left out: ndjson.", ["ndjson", "csv"]);
    ImportMode, "ImportMode", choice("What a list says of items that are there: that they are so, or what somebody counted.", ["create", "count"]);
    Sort, "MovementKind", choice("Why the units on hand changed.", MovementKind::ALL.map(MovementKind::as_str));
}

/// One of three sorts, told apart by the number that they carry.
impl PartialSchema for AdjustmentBody {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("A change of the units on hand."))
            .item(
                sort::<AnyUnits>("delta", "Units appear or vanish; needs an idempotency key.")
                    .property("reason", refer::<ReasonWord>())
                    .required("reason")
                    .property("min_available", nullable::<AnyUnits>()),
            )
            .item(
                sort::<NotNegative>("count", "Somebody counted.")
                    .property("reason", refer::<ReasonWord>())
                    .required("reason")
                    .property("if_on_hand", nullable::<AnyUnits>()),
            )
            .item(
                sort::<Positive>("receive", "Units arrive; needs an idempotency key.")
                    .property("reference", nullable::<ReferenceWord>()),
            )
            .into()
    }
}

impl ToSchema for AdjustmentBody {
    fn name() -> Cow<'static, str> {
        "Adjustment".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((T::name().into(), T::schema()));
        }
        add::<AnyUnits>(schemas);
        add::<NotNegative>(schemas);
        add::<Positive>(schemas);
        add::<ReasonWord>(schemas);
        add::<ReferenceWord>(schemas);
    }
}

/// The schema of a state.
pub(crate) struct State;

/// The schema of a movement's kind.
pub(crate) struct Sort;

/// The schema of what SKUs begin with.
pub(crate) struct Prefix;

/// The schema of what names of locks begin with.
pub(crate) struct LockPrefix;

/// The schema of a movement's number, or 0.
pub(crate) struct After;

/// The schema of a format.
pub(crate) struct ExportFormat;

/// The schema of a mode of an import.
pub(crate) struct ImportMode;

/// The schema of a page's size.
pub(crate) struct Limit;

/// A text that matches a pattern.
pub(crate) fn string(about: &str, pattern: &str) -> ObjectBuilder {
    typed(Type::String).description(Some(about)).pattern(Some(pattern))
}

/// An integer within bounds, both included.
pub(crate) fn integer(about: &str, least: i64, most: i64) -> ObjectBuilder {
    let bound = |n: i64| isize::try_from(n).ok();
    typed(Type::Integer)
        .description(Some(about))
        .format(Some(known(KnownFormat::Int64)))
        .minimum(bound(least))
        .maximum(bound(most))
}

/// One of some words.
pub(crate) fn choice<const N: usize>(about: &str, words: [&str; N]) -> ObjectBuilder {
    typed(Type::String).description(Some(about)).enum_values(Some(words))
}

/// A value of this type, and nothing more said about it.
pub(crate) fn typed(sort: Type) -> ObjectBuilder {
    Object::builder().schema_type(SchemaType::new(sort))
}

fn name(about: &str) -> ObjectBuilder {
    string(about, NAME).min_length(Some(1)).max_length(Some(128))
}

fn text(about: &str) -> ObjectBuilder {
    string(about, TEXT).max_length(Some(255))
}

fn known(format: KnownFormat) -> SchemaFormat {
    SchemaFormat::KnownFormat(format)
}

fn custom(format: &str) -> SchemaFormat {
    SchemaFormat::Custom(format.to_owned())
}

fn most_millis() -> i64 {
    i64::try_from(Ttl::MAX_MILLIS).unwrap_or(i64::MAX)
}

fn sort<T: ToSchema>(number: &str, about: &str) -> ObjectBuilder {
    typed(Type::Object)
        .description(Some(about))
        .property(number, refer::<T>())
        .required(number)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

pub(crate) fn refer<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

pub(crate) fn nullable<T: ToSchema>() -> OneOfBuilder {
    OneOfBuilder::new().item(refer::<T>()).item(typed(Type::Null))
}
