//! Who may do what: the scope that a route asks for, and the scopes of the key that a request
//! carries.
//!
//! Who asks is found out once, before the request is routed. What a route asks for stands beside
//! it in `routes.rs`, and is compared before anything else of the request is looked at.

mod guarded;
mod keys;

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

pub(crate) use self::guarded::{Guarded, Visit};
pub use self::keys::{Key, KeyHash, Keys, Token};
use crate::problem::{Kind, Problem};

/// What a key may be allowed to do.
///
/// ```
/// # use stockhold_server::access::{Scope, Scopes};
/// let clerk = Scopes::from_iter([Scope::Read, Scope::Stock]);
/// assert!(clerk.include(Scope::Stock) && !clerk.include(Scope::Holds));
/// assert!(Scopes::from_iter([Scope::Admin]).include(Scope::Holds));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To look at everything.
    Read,
    /// To place, confirm, release and extend holds.
    Holds,
    /// To change stock, and to ship and cancel what was confirmed.
    Stock,
    /// To take locks.
    Locks,
    /// All of it, and to revoke holds.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Holds, Self::Stock, Self::Locks, Self::Admin];

    /// Its name, as in the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Holds => "holds",
            Self::Stock => "stock",
            Self::Locks => "locks",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        named.ok_or_else(|| format!("there is no scope {text:?}; there are {}", names(&Self::ALL)))
    }
}

fn names(scopes: &[Scope]) -> String {
    let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    names.join(", ")
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().collect()
    }
}

impl Scopes {
    /// Whether they allow what this scope allows.
    #[must_use]
    pub const fn include(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Those that were put in; [`Scope::Admin`] stands for itself.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope.bit()))
    }
}

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Scope(Scope),
    ReadFromElsewhere,
    /// That the caller is known; the handler looks at the scopes itself.
    Key,
}

impl Need {
    /// For a handler that only who meets this may reach.
    pub(crate) const fn guards<H>(self, handler: H) -> Guarded<H> {
        Guarded::new(self, handler)
    }
}

/// Who asks, and what they may do. A handler that decides by itself what is needed, as a batch
/// does, takes it as an argument.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    caller: Caller,
    /// The server listens on a loopback address.
    at_home: bool,
}

#[derive(Clone, Debug)]
enum Caller {
    /// There are no keys.
    Anybody,
    Keyed(Arc<str>, Scopes),
    /// There are keys, and the request has none of them: why.
    Stranger(&'static str),
}

impl Granted {
    /// Whether the caller may do what needs this scope.
    ///
    /// # Errors
    /// `unauthorized` if nobody knows who asks; `forbidden` if that one may not.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), Problem> {
        match &self.caller {
            Caller::Anybody => Ok(()),
            Caller::Keyed(_, scopes) if scopes.include(scope) => Ok(()),
            Caller::Keyed(..) => {
                let detail = format!("the key does not have the scope {scope}");
                Err(Problem::new(Kind::Forbidden, detail).scope(scope))
            }
            Caller::Stranger(why) => Err(Problem::new(Kind::Unauthorized, *why)),
        }
    }

    fn is_known(&self) -> Result<(), Problem> {
        match &self.caller {
            Caller::Anybody | Caller::Keyed(..) => Ok(()),
            Caller::Stranger(why) => Err(Problem::new(Kind::Unauthorized, *why)),
        }
    }

    fn meets(&self, need: Need) -> Result<(), Problem> {
        match need {
            Need::Scope(scope) => self.check(scope),
            Need::ReadFromElsewhere if self.at_home => Ok(()),
            Need::ReadFromElsewhere => self.check(Scope::Read),
            Need::Key => self.is_known(),
        }
    }

    /// The name of the key, for the log.
    pub(crate) fn key_name(&self) -> Option<&str> {
        match &self.caller {
            Caller::Keyed(name, _) => Some(name),
            Caller::Anybody | Caller::Stranger(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_called_by_its_name() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert!("write".parse::<Scope>().unwrap_err().contains("read, holds, stock"));
    }

    #[test]
    fn a_scope_allows_itself_and_admin_allows_all() {
        for scope in Scope::ALL {
            let scopes = Scopes::from_iter([scope]);
            assert_eq!(scopes.iter().collect::<Vec<_>>(), [scope]);
            for other in Scope::ALL {
                let allowed = scope == other || scope == Scope::Admin;
                assert_eq!(scopes.include(other), allowed, "{scope} {other}");
            }
        }
        assert!(!Scopes::default().include(Scope::Read));
    }
}
