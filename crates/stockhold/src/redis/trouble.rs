//! Why Redis did not do what it was asked to, by what is to be done about it.

use std::{error::Error, fmt, time::Duration};

use ::redis::{ErrorKind, RedisError};

/// Why Redis did not do what it was asked to.
///
/// None of this is ever a reason to fail a hold: whoever gets it asks the ledger instead.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What sort of trouble.
    pub kind: Kind,
    message: String,
    source: Option<RedisError>,
}

/// Sorts of trouble, by what is done about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The breaker is open: so much has failed that Redis is not even asked.
    Open,
    /// No connection is to be had: nobody listens, or nobody who is what was looked for.
    Refused,
    /// The connection was lost while an answer was waited for.
    Lost,
    /// No answer in time.
    Timeout,
    /// It is a replica (`READONLY`): the primary is looked for again.
    ReadOnly,
    /// It reads its data from disk, or waits for its primary (`LOADING`, `MASTERDOWN`).
    Loading,
    /// It does not know the script (`NOSCRIPT`): the script is sent along.
    NoScript,
    /// It is busy with somebody's script (`BUSY`).
    Busy,
    /// It has no memory left (`OOM`): it is read on, but not written.
    Full,
    /// It writes nothing, because its disk fails or its replicas are gone (`MISCONF`, `NOREPLICAS`).
    Misconfigured,
    /// The key is elsewhere (`MOVED`, `ASK`, `TRYAGAIN`, `CROSSSLOT`): this is a Cluster.
    Moved,
    /// The Cluster lacks a part, or a part of it cannot be found (`CLUSTERDOWN`).
    ClusterDown,
    /// It does not let this user in, or not do this (`NOAUTH`, `WRONGPASS`, `NOPERM`).
    Denied,
    /// An answer that makes no sense, or an error of which nothing is known.
    Odd,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Open,
        Self::Refused,
        Self::Lost,
        Self::Timeout,
        Self::ReadOnly,
        Self::Loading,
        Self::NoScript,
        Self::Busy,
        Self::Full,
        Self::Misconfigured,
        Self::Moved,
        Self::ClusterDown,
        Self::Denied,
        Self::Odd,
    ];

    /// A word for it, in a metric.
    ///
    /// ```
    /// # use stockhold::redis::Kind;
    /// assert_eq!(Kind::ReadOnly.code(), "read_only");
    /// ```
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::ReadOnly => "read_only",
            Self::Loading => "loading",
            Self::NoScript => "no_script",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Misconfigured => "misconfigured",
            Self::Moved => "moved",
            Self::ClusterDown => "cluster_down",
            Self::Denied => "denied",
            Self::Odd => "odd",
        }
    }

    /// What an operator does about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Open | Self::Timeout => {
                "see whether Redis is overloaded, and whether the network is"
            }
            Self::Refused => {
                "see whether Redis runs, and whether its URL is right, with rediss for TLS"
            }
            Self::Lost => {
                "nothing, unless it comes again: then look for a proxy that ends connections"
            }
            Self::ReadOnly => {
                "name the primary, or Sentinels who know it: redis+sentinel://host/primary"
            }
            Self::Loading => "wait until it has read its data",
            Self::NoScript => "nothing: the script is sent again",
            Self::Busy => "find out whose script it runs: redis-cli SCRIPT KILL ends it",
            Self::Full => "raise maxmemory",
            Self::Misconfigured => "look into its log: its disk fails, or its replicas are gone",
            Self::Moved => "it is a member of a Cluster: redis+cluster://host,host2",
            Self::ClusterDown => {
                "see which slots of the Cluster nobody has: redis-cli CLUSTER INFO"
            }
            Self::Denied => {
                "mend the user or password in the URL, or the user's rights: redis-cli ACL LIST"
            }
            Self::Odd => "see whether this is a Redis of version 6.2 or newer",
        }
    }

    /// Whether the command may have been done all the same.
    #[must_use]
    pub const fn may_be_done(self) -> bool {
        matches!(self, Self::Lost | Self::Timeout | Self::Odd)
    }

    /// Whether it speaks against asking on: the breaker counts it. What is wrong with one command, or
    /// only with writes, does not.
    pub(super) const fn counts(self) -> bool {
        match self {
            Self::Refused
            | Self::Lost
            | Self::Timeout
            | Self::ReadOnly
            | Self::Loading
            | Self::Busy
            | Self::ClusterDown
            | Self::Denied => true,
            Self::Open
            | Self::NoScript
            | Self::Full
            | Self::Misconfigured
            | Self::Moved
            | Self::Odd => false,
        }
    }

    /// By the word that an error of the server begins with.
    fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "READONLY" => Self::ReadOnly,
            "LOADING" | "MASTERDOWN" => Self::Loading,
            "NOSCRIPT" => Self::NoScript,
            "BUSY" => Self::Busy,
            "OOM" => Self::Full,
            "MISCONF" | "NOREPLICAS" => Self::Misconfigured,
            "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" => Self::Moved,
            "CLUSTERDOWN" => Self::ClusterDown,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied,
            _ => return None,
        })
    }

    fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io if error.is_timeout() => Self::Timeout,
            ErrorKind::Io if error.is_connection_refusal() => Self::Refused,
            ErrorKind::Io => Self::Lost,
            ErrorKind::AuthenticationFailed => Self::Denied,
            ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::EmptySentinelList => Self::Refused,
            ErrorKind::ClusterConnectionNotFound => Self::ClusterDown,
            ErrorKind::Server(_) | ErrorKind::Extension => Self::of_server(error),
            _ => Self::Odd,
        }
    }

    /// Redis 6 hands an error that a script has met on in the middle of one of its own.
    fn of_server(error: &RedisError) -> Self {
        let whole = error.code().and_then(Self::of_code);
        let inner = || {
            let words = error.detail().unwrap_or_default().split_whitespace();
            words.filter_map(|word| word.strip_prefix('-')).find_map(Self::of_code)
        };
        whole.or_else(inner).unwrap_or(Self::Odd)
    }
}

impl Trouble {
    pub(super) fn open() -> Self {
        Self::new(Kind::Open, "Redis has failed too often just now, and is not asked")
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(Kind::Timeout, format!("Redis has not answered within {limit:?}"))
    }

    pub(crate) fn odd(message: impl Into<String>) -> Self {
        Self::new(Kind::Odd, message)
    }

    /// It has said so itself.
    pub(crate) fn replica() -> Self {
        Self::new(Kind::ReadOnly, "this Redis is a replica")
    }

    pub(super) fn other_members() -> Self {
        Self::new(Kind::Lost, "other members of the Cluster take writes by now")
    }

    /// Whether the connection is given up. Behind one that is silent there may be nobody any more; behind another one,
    /// the primary; and one on which an answer makes no sense is out of step. A server that does not know a command
    /// (`CONFIG`, where it is not to be had) has answered.
    pub(super) fn spoils_the_line(&self) -> bool {
        let has_answered = || {
            self.source
                .as_ref()
                .is_some_and(|e| matches!(e.kind(), ErrorKind::Server(_) | ErrorKind::Extension))
        };
        match self.kind {
            Kind::Lost | Kind::Timeout | Kind::ReadOnly => true,
            Kind::Odd => !has_answered(),
            Kind::Open
            | Kind::Refused
            | Kind::Loading
            | Kind::NoScript
            | Kind::Busy
            | Kind::Full
            | Kind::Misconfigured
            | Kind::Moved
            | Kind::ClusterDown
            | Kind::Denied => false,
        }
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Whoever cannot connect was refused, whatever it was that broke on the way.
    pub(super) fn while_connecting(self) -> Self {
        let kind = match self.kind {
            Kind::Lost | Kind::Odd => Kind::Refused,
            kind => kind,
        };
        Self { kind, ..self }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let kind = Kind::of(&error);
        let message = match kind {
            Kind::Refused => "no connection to Redis is to be had",
            Kind::Lost => "the connection to Redis was lost",
            Kind::Timeout => "Redis has not answered in time",
            Kind::ReadOnly => "this Redis is a replica",
            Kind::Loading => "Redis reads its data from disk",
            Kind::Busy => "Redis is busy with a script of somebody",
            Kind::Full => "Redis has no memory left",
            Kind::Misconfigured => "Redis takes no writes now",
            Kind::Moved => "this Redis is part of a Cluster: its URL is redis+cluster://host,host2",
            Kind::ClusterDown => "the Cluster lacks a part",
            Kind::Denied => "Redis does not let this user do it",
            Kind::Open | Kind::NoScript | Kind::Odd => "Redis cannot do it",
        };
        Self { kind, message: message.to_owned(), source: Some(error) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Trouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}
