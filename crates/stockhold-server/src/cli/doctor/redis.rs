//! What there is to say of Redis.

use stockhold::redis::{Kind, Redis, RedisUrl, Trouble};

use super::{
    super::{Fault, LedgerUrl, runtime},
    check::Check,
};

const NAME: &str = "redis";

/// The oldest that will do.
const OLDEST: (u32, u32) = (6, 2);

pub(super) fn check(url: &RedisUrl, ledger: &LedgerUrl) -> Check {
    if !matches!(ledger, LedgerUrl::Postgres(_)) {
        let next = "leave redis.url empty: nobody shares this ledger, so there is nothing to share";
        return Check::warn(NAME, format!("{url}, of no use over {ledger}"), next);
    }
    let redis = match Redis::new(url) {
        Ok(redis) => redis,
        Err(failure) => {
            return Check::bad(NAME, Fault::from(failure).to_string(), "mend redis.url");
        }
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(async {
            let version = redis.version().await;
            judge(url, version, redis.eviction().await)
        }),
        Err(fault) => Check::bad(NAME, fault.to_string(), "start it again"),
    }
}

/// A server works without it, so nothing that is wrong with it is bad.
fn judge(
    url: &RedisUrl,
    version: Result<String, Trouble>,
    eviction: Result<Option<String>, Trouble>,
) -> Check {
    let version = match version {
        Ok(version) => version,
        Err(trouble) => {
            let next = format!("{}; servers work without it, and read more", trouble.kind.advice());
            return Check::warn(NAME, format!("{url}: {trouble}"), next);
        }
    };
    let found = format!("{url}, version {version}");
    if is_older(&version) {
        let next = "install Redis 6.2 or newer: this one does not tell what has changed";
        return Check::warn(NAME, found, next);
    }
    match eviction {
        Ok(None) => Check::ok(NAME, found),
        Ok(Some(policy)) => {
            let next = "set maxmemory-policy to noeviction: locks could be evicted, so that Postgres grants them \
                        instead, and slower";
            Check::warn(NAME, format!("{found}, with maxmemory-policy {policy}"), next)
        }
        Err(trouble) => {
            let or_else = match trouble.kind {
                Kind::Denied => ", or let this user ask for it: +config|get",
                _ => "",
            };
            let next = format!(
                "see to it that maxmemory-policy is noeviction, for locks may be evicted otherwise{or_else}"
            );
            let found = format!("{found}; its maxmemory-policy is not known: {trouble}");
            Check::warn(NAME, found, next)
        }
    }
}

fn is_older(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, older) in
            [("6.0.16", true), ("6.2.0", false), ("7.0.15", false), ("10.1", false)]
        {
            assert_eq!(is_older(version), older, "{version}");
        }
    }
}
