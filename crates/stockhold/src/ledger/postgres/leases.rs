//! Locks in the database: the leases that it has granted, and the rule who grants (`locks.sql`).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::LockName;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::{
    batch::Desk,
    failure::Trouble,
    rows::{Damaged, column, damaged, timestamp},
};
use crate::{
    Failure,
    lock::{Attempt, Change, Fence, Grantor, Held, LeaseTtl, Leases, Mode, Released, Rule, Token},
};

/// Leases in the database of a ledger.
#[derive(Debug)]
pub(super) struct PostgresLeases(pub(super) Arc<Desk>);

type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

const READ: &str = "SELECT * FROM read_lock_rule($1)";
const REPLACE: &str = "SELECT replace_lock_rule($1, $2, $3, $4, $5)";
const OPENED: &str = "SELECT open_lock_rule($1)";
const ACQUIRE: &str = "SELECT * FROM acquire_lease($1, $2, $3, $4, $5)";
const RENEW: &str = "SELECT renew_lease($1, $2, $3, $4)";
const RELEASE: &str = "SELECT release_lease($1, $2)";
const FORGET: &str = "SELECT forget_leases()";
const INSPECT: &str = "SELECT name, epoch, number, -milliseconds_since(until), \
    (extract(epoch FROM since) * 1000)::bigint FROM lease WHERE name = $1 AND until > clock_timestamp()";
const LIST: &str = "SELECT name, epoch, number, -milliseconds_since(until), \
    (extract(epoch FROM since) * 1000)::bigint FROM lease \
    WHERE starts_with(name, $1) AND name > $2 AND until > clock_timestamp() ORDER BY name LIMIT $3";

impl PostgresLeases {
    async fn rows(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Trouble> {
        let mut connection = self.0.link.connection_for_locks().await?;
        connection.trip(async |client| client.query_typed(sql, params).await).await
    }

    async fn row(&self, sql: &str, params: Params<'_>) -> Result<Row, Trouble> {
        let row = self.rows(sql, params).await?.pop();
        row.ok_or_else(|| Damaged("a row is gone".to_owned()).into())
    }

    /// Of the rule, which is not to stand behind all who want a lock.
    async fn rule_row(&self, sql: &str, params: Params<'_>) -> Result<Row, Trouble> {
        let mut connection = self.0.link.connection_to_read().await?;
        let row =
            connection.trip(async |client| client.query_typed(sql, params).await).await?.pop();
        row.ok_or_else(|| Damaged("a row is gone".to_owned()).into())
    }

    async fn read(&self, sees_redis: bool) -> Result<Rule, Trouble> {
        Ok(rule(&self.rule_row(READ, &[(&sees_redis, Type::BOOL)]).await?)?)
    }

    async fn replaced(&self, epoch: i64, change: &Change) -> Result<Option<Rule>, Trouble> {
        let (grantor, server) = (change.grantor.code(), change.server.as_str());
        let (ghosts, unseen) = (millis(change.ghosts), change.unseen_for.map(millis));
        let params: Params<'_> = &[
            (&epoch, Type::INT8),
            (&grantor, Type::TEXT),
            (&server, Type::TEXT),
            (&ghosts, Type::INT8),
            (&unseen, Type::INT8),
        ];
        let next: Option<i64> = column(&self.rule_row(REPLACE, params).await?, 0)?;
        let Some(next) = next else { return Ok(None) };
        // A moment later it may be the rule of somebody else again.
        let rule = self.read(false).await?;
        Ok((signed(rule.epoch) == next).then_some(rule))
    }

    /// Some of what is over. Whether there may be more.
    async fn forgotten(&self) -> Result<bool, Trouble> {
        Ok(column(&self.row(FORGET, &[]).await?, 0)?)
    }

    async fn acquired(
        &self,
        epoch: i64,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Option<Attempt>, Trouble> {
        let (name, token, ttl) = (name.as_str(), token.as_str(), millis(ttl.get()));
        let is_strict = mode == Mode::Strict;
        let params: Params<'_> = &[
            (&name, Type::TEXT),
            (&token, Type::TEXT),
            (&ttl, Type::INT8),
            (&epoch, Type::INT8),
            (&is_strict, Type::BOOL),
        ];
        let row = self.row(ACQUIRE, params).await?;
        let left = duration(column::<Option<i64>>(&row, 3)?.unwrap_or(0));
        Ok(match column(&row, 0)? {
            "granted" => Some(Attempt::Granted { fence: fence(&row, 1)?, left }),
            "busy" => Some(Attempt::Busy(left)),
            _ => None,
        })
    }
}

#[async_trait]
impl Leases for PostgresLeases {
    async fn rule(&self, sees_redis: bool) -> Result<Rule, Failure> {
        self.read(sees_redis).await.map_err(Trouble::into_failure)
    }

    async fn replace(&self, epoch: u64, change: &Change) -> Result<Option<Rule>, Failure> {
        self.replaced(signed(epoch), change).await.map_err(Trouble::into_failure)
    }

    async fn opened(&self, epoch: u64) -> Result<Rule, Failure> {
        let opened = async {
            self.rule_row(OPENED, &[(&signed(epoch), Type::INT8)]).await?;
            self.read(false).await
        };
        opened.await.map_err(Trouble::into_failure)
    }

    async fn acquire(
        &self,
        epoch: u64,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Option<Attempt>, Failure> {
        let acquired = self.acquired(signed(epoch), name, token, ttl, mode).await;
        acquired.map_err(Trouble::into_failure)
    }

    async fn renew(
        &self,
        epoch: u64,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Option<bool>, Failure> {
        let params: Params<'_> = &[
            (&name.as_str(), Type::TEXT),
            (&token.as_str(), Type::TEXT),
            (&millis(ttl.get()), Type::INT8),
            (&signed(epoch), Type::INT8),
        ];
        let row = self.row(RENEW, params).await.map_err(Trouble::into_failure)?;
        Ok(match column(&row, 0).map_err(failed)? {
            "renewed" => Some(true),
            "lost" => Some(false),
            _ => None,
        })
    }

    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, Failure> {
        let params: Params<'_> = &[(&name.as_str(), Type::TEXT), (&token.as_str(), Type::TEXT)];
        let row = self.row(RELEASE, params).await.map_err(Trouble::into_failure)?;
        Ok(match column(&row, 0).map_err(failed)? {
            "clean" => Released::Clean,
            "superseded" => Released::Superseded,
            _ => Released::Expired,
        })
    }

    async fn inspect(&self, name: &LockName) -> Result<Option<Held>, Failure> {
        let rows = self.rows(INSPECT, &[(&name.as_str(), Type::TEXT)]).await;
        let rows = rows.map_err(Trouble::into_failure)?;
        rows.first().map(held).transpose().map_err(failed)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, Failure> {
        let (after, limit) =
            (after.map_or("", LockName::as_str), i64::try_from(limit).unwrap_or(i64::MAX));
        let params: Params<'_> =
            &[(&prefix, Type::TEXT), (&after, Type::TEXT), (&limit, Type::INT8)];
        let rows = self.rows(LIST, params).await.map_err(Trouble::into_failure)?;
        rows.iter().map(held).collect::<Result<_, _>>().map_err(failed)
    }

    async fn forget(&self) -> Result<(), Failure> {
        while self.forgotten().await.map_err(Trouble::into_failure)? {}
        Ok(())
    }
}

fn failed(damaged: Damaged) -> Failure {
    Trouble::from(damaged).into_failure()
}

fn rule(row: &Row) -> Result<Rule, Damaged> {
    let grantor = match column(row, 0)? {
        "nobody" => Grantor::Nobody,
        "database" => Grantor::Database,
        "redis" => Grantor::Redis,
        other => return Err(Damaged(format!("locks are granted by {other}"))),
    };
    Ok(Rule {
        grantor,
        epoch: unsigned(column(row, 1)?)?,
        server: column(row, 2)?,
        is_open: column(row, 3)?,
        age: duration(column(row, 4)?),
        strict_in: duration(column(row, 5)?),
    })
}

fn held(row: &Row) -> Result<Held, Damaged> {
    Ok(Held {
        name: column::<&str>(row, 0)?.parse().map_err(damaged)?,
        fence: fence(row, 1)?,
        left: duration(column(row, 3)?),
        since: Some(timestamp(row, 4)?),
    })
}

fn fence(row: &Row, first: usize) -> Result<Fence, Damaged> {
    Ok(Fence { epoch: unsigned(column(row, first)?)?, seq: unsigned(column(row, first + 1)?)? })
}

/// What is behind is no time at all.
fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn signed(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, Damaged> {
    u64::try_from(number).map_err(damaged)
}
