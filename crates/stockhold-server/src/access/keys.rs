//! The keys that a server knows: their names, and what their tokens hash to.

use std::{fmt, fmt::Write, net::IpAddr, str::FromStr, sync::Arc};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Caller, Granted, Scopes};
use crate::settings::text;

/// What a token hashes to: SHA-256, written as 64 hexadecimal digits. Nobody gets from there back
/// to the token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl FromStr for KeyHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be 64 hexadecimal digits, as `stockhold key new` prints them".to_owned();
        let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
        let bytes = bytes.filter(|_| rest.is_empty()).ok_or_else(wrong)?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

/// Only its beginning: enough to tell keys apart in a log.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{}...", hexadecimal(&[a, b, c, d]))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a caller shows: `sh_` and 64 hexadecimal digits of chance.
///
/// ```
/// # use stockhold_server::access::Token;
/// let token = Token::from_bytes([7; 32]);
/// assert!(token.as_str().starts_with("sh_0707"));
/// assert_eq!(token.hash().to_string().len(), 64);
/// ```
pub struct Token(String);

impl Token {
    /// The token of these bytes, which nobody else may know or guess.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(format!("sh_{}", hexadecimal(&bytes)))
    }

    /// What the caller sends after `Authorization: Bearer`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the settings hold.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Who has it, for people and for the log.
    pub name: String,
    /// What its token hashes to. Written, it is shortened.
    #[serde(deserialize_with = "text::deserialize", serialize_with = "shortened")]
    pub sha256: KeyHash,
    /// What it may do.
    pub scopes: Scopes,
}

fn shortened<S: Serializer>(hash: &KeyHash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:?}"))
}

/// Every key that a server knows. Without any, everybody who can reach it may do everything.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(KeyHash, Arc<str>, Scopes)>);

impl FromIterator<Key> for Keys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.sha256, key.name.into(), key.scopes)).collect())
    }
}

impl Keys {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who sent these headers to a server that listens on this address.
    pub(crate) fn who(&self, headers: &HeaderMap, listens_on: IpAddr) -> Granted {
        Granted { caller: self.caller(headers), at_home: listens_on.is_loopback() }
    }

    fn caller(&self, headers: &HeaderMap) -> Caller {
        if self.is_empty() {
            return Caller::Anybody;
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Caller::Stranger("the request carries no key");
        };
        let token = bearer(value.as_bytes()).filter(|_| values.next().is_none());
        let Some(token) = token else {
            return Caller::Stranger("the header Authorization must be: Bearer, a blank, the key");
        };
        self.find(&KeyHash::of(token)).unwrap_or(Caller::Stranger("the key is not known here"))
    }

    /// Looks at all of them, and at all of each, so that the time it takes tells nothing.
    fn find(&self, hash: &KeyHash) -> Option<Caller> {
        let mut found = None;
        for (known, name, scopes) in &self.0 {
            if bool::from(known.0.ct_eq(&hash.0)) {
                found = Some((name, scopes));
            }
        }
        found.map(|(name, scopes)| Caller::Keyed(Arc::clone(name), *scopes))
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use axum::http::HeaderValue;

    use super::*;
    use crate::access::{Need, Scope};

    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const NEAR: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn keys() -> Keys {
        let key = |n, name: &str, scope| Key {
            name: name.to_owned(),
            sha256: Token::from_bytes([n; 32]).hash(),
            scopes: Scopes::from_iter([scope]),
        };
        Keys::from_iter([key(1, "shop", Scope::Holds), key(2, "clerk", Scope::Read)])
    }

    fn shows(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(text).unwrap())])
    }

    fn name_of(headers: &HeaderMap) -> Option<String> {
        keys().who(headers, FAR).key_name().map(str::to_owned)
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        // `printf abc | sha256sum`
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text.parse(), Ok(KeyHash::of(b"abc")));
        assert_eq!(KeyHash::of(b"abc").to_string(), text);
        assert_eq!(format!("{:?}", KeyHash::of(b"abc")), "ba7816bf...");
        for wrong in ["", "ba", &text[1..], &text.replace('b', "g"), &text.replace("ba", "+a")] {
            assert!(wrong.parse::<KeyHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_token_alone() {
        let token = |n| Token::from_bytes([n; 32]).as_str().to_owned();
        assert_eq!(name_of(&shows(&format!("Bearer {}", token(1)))).as_deref(), Some("shop"));
        assert_eq!(name_of(&shows(&format!("bearer   {}", token(2)))).as_deref(), Some("clerk"));
        for wrong in [
            format!("Bearer {}", token(3)),
            format!("Bearer {}", Token::from_bytes([1; 32]).hash()),
            format!("Basic {}", token(1)),
            token(1),
            "Bearer ".to_owned(),
            "Bearer".to_owned(),
        ] {
            assert_eq!(name_of(&shows(&wrong)), None, "{wrong}");
        }
        let mut twice = shows(&format!("Bearer {}", token(1)));
        twice.append(AUTHORIZATION, HeaderValue::from_str(&token(1)).unwrap());
        assert_eq!(name_of(&twice), None);
    }

    #[test]
    fn without_keys_everybody_may_do_everything() {
        let nobody = Keys::default().who(&HeaderMap::new(), FAR);
        assert!(Scope::ALL.iter().all(|scope| nobody.check(*scope).is_ok()));
    }

    #[test]
    fn what_is_open_at_home_is_to_be_read_from_elsewhere() {
        let (stranger, clerk) =
            (HeaderMap::new(), shows(&format!("Bearer {}", Token::from_bytes([2; 32]).as_str())));
        let may =
            |headers, address| keys().who(headers, address).meets(Need::ReadFromElsewhere).is_ok();
        assert!(may(&stranger, NEAR) && !may(&stranger, FAR) && may(&clerk, FAR));
    }

    #[test]
    fn a_token_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", Token::from_bytes([7; 32])), "Token(...)");
    }
}
