//! The schema of each problem: what all of them say, and the numbers of this one.

use std::collections::BTreeMap;

use stockhold::Quantity;
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    access::Scope,
    problem::{Confirmed, ItemName, Kind, Short},
    wire::{
        AnyUnits, Dependency, HoldBody, HoldIdWord, LocationWord, LockWord, ReferenceWord, Rfc3339,
        SkuWord, State, choice, integer, nullable, refer, typed,
    },
};

/// What the schema of a problem is called.
pub(super) fn name(kind: Kind) -> String {
    format!("Problem.{}", kind.code())
}

/// The schemas of all problems, and of what they refer to.
pub(super) fn schemas() -> BTreeMap<String, RefOr<Schema>> {
    let mut schemas = Vec::new();
    for kind in Kind::ALL {
        schemas.push((name(*kind), numbers(*kind, Members::of_all(*kind)).0.into()));
    }
    refer_to::<ItemName<'_>>(&mut schemas);
    refer_to::<Short<'_>>(&mut schemas);
    refer_to::<Confirmed<'_>>(&mut schemas);
    refer_to::<HoldBody<'_>>(&mut schemas);
    refer_to::<Dependency<'_>>(&mut schemas);
    refer_to::<AnyUnits>(&mut schemas);
    refer_to::<LockWord>(&mut schemas);
    schemas.into_iter().collect()
}

fn refer_to<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}

/// What is said besides, as `problem/body.rs` writes it.
fn numbers(kind: Kind, all: Members) -> Members {
    match kind {
        Kind::InvalidJson => all.field().count("line").count("column"),
        Kind::InvalidField
        | Kind::HostNotAllowed
        | Kind::NotAcceptable
        | Kind::BodyTooLarge
        | Kind::UnsupportedMediaType => all.field(),
        Kind::IdempotencyKeyRequired => all.field().must("verb", typed(Type::String)),
        Kind::TooManyLines => all.field().count("requested").count("max"),
        Kind::QuantityTooLarge => all.field().item().units("requested").units("max"),
        Kind::QuantityTooSmall => all.field().units("min"),
        Kind::OutOfRange => all.may("field", typed(Type::String)),
        Kind::NotFound
        | Kind::AlreadyReleased
        | Kind::Revoked
        | Kind::AlreadyCancelled
        | Kind::AlreadyShipped
        | Kind::NothingOpen => all.id(),
        Kind::UnknownSku => all.must("items", list::<ItemName<'_>>()),
        Kind::InsufficientStock => all
            .must("lines", list::<Short<'_>>())
            .may("origin", typed(Type::String))
            .may("as_of", refer::<Rfc3339>()),
        Kind::AlreadyConfirmed => all
            .id()
            .must("reference", nullable::<ReferenceWord>())
            .must("confirmed", list::<Confirmed<'_>>()),
        Kind::LockNotHeld | Kind::LeaseLost => all.must("name", refer::<LockWord>()),
        Kind::LockBusy => all.must("name", refer::<LockWord>()).count("expires_in_ms"),
        Kind::NotConfirmed => all.id().must("state", refer::<State>()),
        Kind::MaxLifetime => all.id().must("max_expires_at", refer::<Rfc3339>()),
        Kind::AlreadyExists => all.item().units("on_hand").units("safety_stock"),
        Kind::WouldGoBelow => all.item().units("left").units("floor"),
        Kind::OnHandDiffers => all.item().units("expected").units("on_hand"),
        Kind::HoldEnded => all.must("hold", refer::<HoldBody<'_>>()),
        Kind::HoldExpired => all.id().must("lines", list::<Short<'_>>()),
        Kind::NotInHold => all.id().item(),
        Kind::MoreThanHeld => all.item().units("requested").units("held"),
        Kind::MoreThanOpen => all.item().units("requested").units("open"),
        Kind::Unavailable => all.may("dependencies", list::<Dependency<'_>>()),
        Kind::Forbidden => {
            all.must("scope", choice("What the key lacks.", Scope::ALL.map(Scope::as_str)))
        }
        Kind::NoRoute
        | Kind::Unauthorized
        | Kind::MethodNotAllowed
        | Kind::RequestTimeout
        | Kind::IdempotencyKeyReused
        | Kind::Overloaded
        | Kind::Internal => all,
    }
}

/// The members of a problem, gathered.
struct Members(ObjectBuilder);

impl Members {
    /// What all problems say.
    fn of_all(kind: Kind) -> Self {
        let always = |value: &str| typed(Type::String).enum_values(Some([value]));
        let status = typed(Type::Integer).enum_values(Some([kind.status().as_u16()]));
        Self(typed(Type::Object).title(Some(kind.title())).description(Some(kind.cure())))
            .must("type", always(kind.path()))
            .must("code", always(kind.code()))
            .must("title", always(kind.title()))
            .must("status", status)
            .must("detail", typed(Type::String))
            .must("request_id", typed(Type::String))
    }

    fn must(self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        Self(self.0.property(name, schema).required(name))
    }

    fn may(self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        Self(self.0.property(name, schema))
    }

    fn field(self) -> Self {
        self.must("field", typed(Type::String).description(Some("The part that is wrong.")))
    }

    fn id(self) -> Self {
        self.must("id", refer::<HoldIdWord>())
    }

    fn item(self) -> Self {
        self.must("sku", refer::<SkuWord>()).must("location", refer::<LocationWord>())
    }

    fn units(self, name: &str) -> Self {
        self.must(name, refer::<AnyUnits>())
    }

    fn count(self, name: &str) -> Self {
        self.must(name, integer("A count.", 0, Quantity::MAX.get()))
    }
}

fn list<T: ToSchema>() -> ArrayBuilder {
    ArrayBuilder::new().items(refer::<T>())
}
