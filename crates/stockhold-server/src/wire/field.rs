//! Fields of a request, each parsed into the type that the rules know while it is read, and what
//! is said about one that is wrong.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, MapAccess, Unexpected, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_json::error::Category;
use serde_path_to_error::Track;
use stockhold::{
    HoldId, IdempotencyKey, InvalidName, Location, LockName, OnExpired, Owner, Quantity, Reason,
    Reference, Sku, Ttl,
};

use crate::problem::{Kind, Problem};

/// Reads a body, which is a JSON object.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    parse_with(PhantomData::<Object<T>>, body).map(|Object(value)| value)
}

/// Reads a body. It is read once; only if something is wrong with it, it is read again by a
/// slower reader that knows where it is.
pub(super) fn parse_with<T, S>(seed: S, body: &[u8]) -> Result<T, Problem>
where
    S: for<'de> DeserializeSeed<'de, Value = T> + Copy,
{
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| explain(seed, body, &error))
}

/// Parses a word that stands outside of a body.
pub(crate) fn word<T: FromStr<Err = InvalidName>>(
    field: &'static str,
    text: &str,
) -> Result<T, Problem> {
    text.parse().map_err(|invalid: InvalidName| Problem::field(field, invalid.fault))
}

/// A JSON object, where serde would also take an array.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A text that is parsed into a name.
pub(crate) struct Word<T>(pub(super) T);

pub(crate) type SkuWord = Word<Sku>;
pub(crate) type LocationWord = Word<Location>;
pub(crate) type OwnerWord = Word<Owner>;
pub(crate) type LockWord = Word<LockName>;
pub(crate) type HoldIdWord = Word<HoldId>;
pub(crate) type ReferenceWord = Word<Reference>;
pub(crate) type ReasonWord = Word<Reason>;
pub(crate) type KeyWord = Word<IdempotencyKey>;

impl<'de, T: FromStr<Err = InvalidName>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);

        impl<T: FromStr<Err = InvalidName>> Visitor<'_> for Text<T> {
            type Value = Word<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<T>, E> {
                text.parse().map(Word).map_err(|invalid: InvalidName| E::custom(invalid.fault))
            }
        }

        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// A whole number of units, at least `LEAST`.
pub(crate) struct Units<const LEAST: i64>(pub(crate) Quantity);

/// At least one unit.
pub(crate) type Positive = Units<1>;
/// No unit, or more.
pub(crate) type NotNegative = Units<0>;
/// Any number of units, also less than none.
pub(crate) type AnyUnits = Units<{ Quantity::MIN.get() }>;

impl<const LEAST: i64> Serialize for Units<LEAST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.get())
    }
}

impl<'de, const LEAST: i64> Deserialize<'de> for Units<LEAST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let integer = Integer { least: LEAST, most: Quantity::MAX.get() };
        let units = deserializer.deserialize_i64(integer)?;
        Quantity::new(units).map(Self).map_err(de::Error::custom)
    }
}

/// A life in milliseconds.
pub(super) struct Millis(pub(super) Ttl);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let most = i64::try_from(Ttl::MAX_MILLIS).unwrap_or(i64::MAX);
        let integer = Integer { least: 1, most };
        let millis = deserializer.deserialize_i64(integer)?;
        let ttl = u64::try_from(millis).ok().and_then(Ttl::from_millis);
        ttl.map(Self).ok_or_else(|| {
            let unexpected = Unexpected::Signed(millis);
            de::Error::invalid_value(unexpected, &integer)
        })
    }
}

/// `fail` or `rehold`.
pub(super) struct WhenExpired(pub(super) OnExpired);

impl<'de> Deserialize<'de> for WhenExpired {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;

        impl Visitor<'_> for Choice {
            type Value = OnExpired;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"fail\" or \"rehold\"")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OnExpired, E> {
                match word {
                    "fail" => Ok(OnExpired::Fail),
                    "rehold" => Ok(OnExpired::Rehold),
                    _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_str(Choice).map(Self)
    }
}

/// An integer within bounds; `1.0`, `1e3` and `"1"` are none.
#[derive(Clone, Copy)]
pub(super) struct Integer {
    pub(super) least: i64,
    pub(super) most: i64,
}

impl Visitor<'_> for Integer {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from {} to {}", self.least, self.most)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        if value < self.least || value > self.most {
            return Err(E::invalid_value(Unexpected::Signed(value), &self));
        }
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }
}

impl de::Expected for &Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Visitor::expecting(*self, f)
    }
}

/// Says what is wrong with a body that could not be read.
fn explain<T, S>(seed: S, body: &[u8], first: &serde_json::Error) -> Problem
where
    S: for<'de> DeserializeSeed<'de, Value = T>,
{
    let (mut json, mut track) = (serde_json::Deserializer::from_slice(body), Track::new());
    match seed.deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track)) {
        Err(error) => fault(&track.path().to_string(), &error),
        // The object itself is right: something follows after it.
        Ok(_) => fault(".", first),
    }
}

fn fault(path: &str, error: &serde_json::Error) -> Problem {
    let message = without_position(error);
    let field = field_of(path, &message);
    match error.classify() {
        Category::Data => Problem::field(field, what_it_must_be(&message)),
        Category::Syntax | Category::Eof | Category::Io => {
            let detail = format!("the body is not JSON: {message}");
            let problem = Problem::new(Kind::InvalidJson, detail);
            problem.or_field(field).at(error.line(), error.column())
        }
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    if let Some(text) = message.strip_suffix(&position) {
        message.truncate(text.len());
    }
    message
}

/// The path of the reader, and after it the name that only its message has.
fn field_of(path: &str, message: &str) -> String {
    const LONGEST: usize = 200;
    // The reader writes `.` for the whole, and `?` for a part that it could not name.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let named = ["missing field `", "duplicate field `", "unknown field `"]
        .iter()
        .find_map(|what| message.strip_prefix(what))
        .and_then(|rest| rest.split('`').next())
        .filter(|name| path != *name && !path.ends_with(&format!(".{name}")));
    let field = match (path, named) {
        ("", None) => "body".to_owned(),
        ("", Some(name)) => name.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
    };
    field.chars().take(LONGEST).collect()
}

/// Turns the reader's message round: it never repeats what was sent.
fn what_it_must_be(message: &str) -> String {
    if message.starts_with("missing field") {
        return "must be given".to_owned();
    }
    if message.starts_with("duplicate field") {
        return "must be given once only".to_owned();
    }
    if message.starts_with("unknown field") {
        let known = message.rsplit_once("expected ").map_or("none", |(_, known)| known);
        return format!("is not known here; expected {known}");
    }
    match message.rsplit_once(", expected ") {
        Some((_, wanted)) => format!("must be {wanted}"),
        None => message.to_owned(),
    }
}
