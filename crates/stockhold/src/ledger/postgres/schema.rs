//! Migrations. All instances may start at once: one of them migrates, the others wait for it.

use std::time::Duration;

use tokio_postgres::{Client, Error};

/// The steps from an empty database to this version's schema, in order. A step that was released is
/// never changed.
const STEPS: [&str; 2] = [
    concat!(include_str!("schema.sql"), include_str!("functions.sql")),
    concat!(include_str!("locks.sql"), include_str!("../../lock/fence.sql")),
];

/// The version that they lead to.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "there are few")]
pub(super) const THIS_VERSION: i32 = STEPS.len() as i32;

/// The tables that a server reads and writes.
pub(super) const TABLES: [&str; 14] = [
    "active",
    "batch",
    "carried",
    "counter",
    "hold",
    "idempotency",
    "lease",
    "ledger",
    "lock_fence",
    "lock_rule",
    "movement",
    "moving_in",
    "stock",
    "transition",
];

/// The functions that it calls.
pub(super) const FUNCTIONS: [&str; 23] = [
    "acquire_lease",
    "be_durable",
    "begin_batch",
    "edit_holds",
    "find_keys",
    "forget_leases",
    "milliseconds_since",
    "miscounted",
    "note_batch",
    "open_batch",
    "open_lock_rule",
    "read_lock_rule",
    "release_lease",
    "remove_active",
    "renew_lease",
    "replace_lock_rule",
    "test_ahead",
    "write_active",
    "write_holds",
    "write_keys",
    "write_movements",
    "write_stock",
    "write_transitions",
];

/// A number of our own, so that nobody else's advisory lock is in the way: `stockhol` in ASCII.
const LOCK: i64 = 0x7374_6f63_6b68_6f6c;

/// How long a migration may take, the wait for that of another instance included.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How far ledger time is ahead of the server's clock, for tests of several processes.
#[cfg(feature = "conformance")]
const TEST_CLOCK: &str = "CREATE TABLE IF NOT EXISTS test_clock (ahead bigint NOT NULL); \
    INSERT INTO test_clock SELECT 0 WHERE NOT EXISTS (SELECT FROM test_clock); \
    CREATE OR REPLACE FUNCTION test_ahead() RETURNS bigint LANGUAGE sql STABLE \
    AS 'SELECT ahead FROM test_clock'";

/// What was found, and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Migrated {
    /// The schema is as this version wants it.
    ToThisVersion,
    /// The schema is of a newer version, which this one must not touch.
    IsNewer {
        /// Its number.
        version: i32,
    },
}

/// The version of the schema that is there, if any.
pub(super) async fn version(client: &Client) -> Result<Option<i32>, Error> {
    let there = "SELECT to_regclass('stockhold_schema') IS NOT NULL";
    let there: bool = client.query_typed_one(there, &[]).await?.try_get(0)?;
    if !there {
        return Ok(None);
    }
    let row = client.query_typed_opt("SELECT version FROM stockhold_schema", &[]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Brings the schema to this version, in one transaction. What is there already is left alone: a role
/// that may not make tables can use those that another has made.
pub(super) async fn migrate(client: &Client) -> Result<Migrated, Error> {
    match version(client).await? {
        Some(THIS_VERSION) if is_complete(client).await? => Ok(Migrated::ToThisVersion),
        Some(version) if version > THIS_VERSION => Ok(Migrated::IsNewer { version }),
        Some(_) | None => migrate_alone(client).await,
    }
}

#[cfg(feature = "conformance")]
async fn is_complete(client: &Client) -> Result<bool, Error> {
    let asked = "SELECT to_regclass('test_clock') IS NOT NULL";
    client.query_typed_one(asked, &[]).await?.try_get(0)
}

#[cfg(not(feature = "conformance"))]
#[expect(clippy::unused_async, reason = "asks for a table of tests where there is one")]
async fn is_complete(_: &Client) -> Result<bool, Error> {
    Ok(true)
}

/// Whoever has waited for another instance has to see what that one made.
async fn migrate_alone(client: &Client) -> Result<Migrated, Error> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0; \
         SELECT pg_advisory_xact_lock({LOCK}); \
         CREATE TABLE IF NOT EXISTS stockhold_schema \
         (one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL); \
         INSERT INTO stockhold_schema (version) VALUES (0) ON CONFLICT DO NOTHING"
    );
    client.batch_execute(&begin).await?;
    let row = client.query_typed_one("SELECT version FROM stockhold_schema", &[]).await?;
    let version: i32 = row.try_get(0)?;
    let Some(missing) = usize::try_from(version).ok().and_then(|done| STEPS.get(done..)) else {
        client.batch_execute("ROLLBACK").await?;
        return Ok(Migrated::IsNewer { version });
    };
    for step in missing {
        client.batch_execute(step).await?;
    }
    #[cfg(feature = "conformance")]
    client.batch_execute(TEST_CLOCK).await?;
    let done = format!("UPDATE stockhold_schema SET version = {THIS_VERSION}; COMMIT");
    client.batch_execute(&done).await?;
    Ok(Migrated::ToThisVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names behind these words, in order.
    fn made(what: &str) -> Vec<&str> {
        let lines = STEPS.into_iter().flat_map(str::lines);
        let name = |line: &'static str| {
            let made = line.strip_prefix(what)?.trim_start_matches("IF NOT EXISTS ");
            made.split([' ', '(']).next()
        };
        let names = lines.filter_map(name);
        let mut names = names.collect::<Vec<_>>();
        names.sort_unstable();
        names
    }

    #[test]
    fn rights_are_looked_at_for_all_that_is_made() {
        assert_eq!(made("CREATE TABLE "), TABLES);
        assert_eq!(made("CREATE FUNCTION "), FUNCTIONS);
    }
}
