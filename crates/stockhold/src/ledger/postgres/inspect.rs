//! What a Postgres server is like, and what of it endangers the two promises.

use std::time::Duration;

use stockhold_core::Timestamp;
use tokio_postgres::{Client, Error, Row, types::Type};

use super::{
    PostgresLedger,
    failure::{self, Trouble},
    link::{Connection, Link},
    rows::{self, Damaged},
    schema::{FUNCTIONS, TABLES, THIS_VERSION},
    url::PostgresUrl,
};
use crate::{
    Failure,
    clock::{Clock, SystemClock},
};
pub use advice::advice;
pub use finding::{Danger, Finding};

mod advice;
mod finding;

/// What was found out about a Postgres server, the database and the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// How it was reached, if it was asked by a URL.
    pub route: Option<Route>,
    /// Such as 170006 for 17.6.
    pub version: i32,
    /// The role that was let in, as SQL writes it.
    pub role: String,
    /// Whether the connection speaks TLS.
    pub tls: bool,
    /// When a commit is answered, as it is within a batch's own transaction.
    pub synchronous_commit: String,
    /// Which standbys a commit waits for; empty if for none.
    pub synchronous_standby_names: String,
    /// Standbys that are connected: their names, and `sync`, `quorum`, `async`, `potential` or `?`.
    pub standbys: Vec<(String, String)>,
    /// Whether what is committed is synced to the disk.
    pub fsync: bool,
    /// Whether pages that were torn by a power cut can be made whole.
    pub full_page_writes: bool,
    /// Whether old rows are removed: `autovacuum` and `track_counts`.
    pub autovacuum: bool,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether transactions are read-only unless they ask for more.
    pub read_only: bool,
    /// Connections that this role may have, its own included.
    pub max_connections: i64,
    /// Connections of others that are open, to whichever database.
    pub other_connections: i64,
    /// What its clock said.
    pub clock: Timestamp,
    /// How far its clock is ahead of that of this machine, in milliseconds, give or take
    /// [`Self::trip`].
    pub ahead_ms: i64,
    /// How long a question took.
    pub trip: Duration,
    /// Whether our tables are there.
    pub has_tables: bool,
    /// The version of our schema; none if it is not there, or may not be read.
    pub schema: Option<i32>,
    /// Why nothing is written to the ledger any more, or not yet.
    pub sealed: Option<String>,
    /// Tables that have names of ours and are of another program.
    pub other_tables: Vec<String>,
    /// The schema of Postgres that our tables are in, or would be made in, as SQL writes it; none
    /// if `search_path` names none that exists.
    pub namespace: Option<String>,
    /// Whether the role may make tables there.
    pub can_create: bool,
    /// Rights on what is there of ours that the role lacks, such as `INSERT on hold`.
    pub missing_rights: Vec<String>,
}

/// How a server was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The host that answered, and its port.
    pub host: String,
    /// Whether nothing goes over a network.
    pub is_local: bool,
    /// How many hosts the URL names.
    pub hosts: usize,
    /// Whether a server takes the first that answers, also if that one takes no writes.
    pub takes_any: bool,
}

impl PostgresLedger {
    /// Looks at a server and changes nothing; also at one that is no ledger yet. Of several hosts it
    /// asks the one that a server would take; a standby only if there is no such host.
    ///
    /// # Errors
    /// `Unavailable` if no server answers, or if they refuse; `Invalid` if they cannot be asked in
    /// this way.
    pub async fn inspect(url: &PostgresUrl) -> Result<ServerFacts, Failure> {
        let mut refused = None;
        for which in [url.clone(), url.anywhere()] {
            for n in 0..which.hosts() {
                match look_at(&which.only(n)).await {
                    Ok(facts) => {
                        return Ok(ServerFacts { route: Some(url.route(n)), ..facts });
                    }
                    Err(failure) => drop(refused.get_or_insert(failure)),
                }
            }
        }
        Err(refused.unwrap_or_else(failure::silent))
    }
}

async fn look_at(url: &PostgresUrl) -> Result<ServerFacts, Failure> {
    let link = Link::new(url, 1)?;
    let mut connection = link.connection().await?;
    look(&mut connection).await.map_err(Trouble::into_failure)
}

const SERVER: &str = "SELECT current_setting('server_version_num')::int4, \
    quote_ident(current_user), \
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), \
    current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), \
    current_setting('fsync')::bool, current_setting('full_page_writes')::bool, \
    current_setting('autovacuum')::bool AND current_setting('track_counts')::bool, \
    pg_is_in_recovery(), current_setting('transaction_read_only')::bool, \
    least(current_setting('max_connections')::int8 \
            - current_setting('superuser_reserved_connections')::int8 \
            - coalesce(current_setting('reserved_connections', true)::int8, 0), \
        (SELECT rolconnlimit FROM pg_roles \
            WHERE rolname = current_user AND rolconnlimit >= 0 AND NOT rolsuper), \
        (SELECT datconnlimit FROM pg_database, pg_roles \
            WHERE datname = current_database() AND rolname = current_user \
            AND datconnlimit >= 0 AND NOT rolsuper)), \
    (SELECT greatest(sum(numbackends) - 1, 0)::int8 FROM pg_stat_database), \
    (extract(epoch FROM clock_timestamp()) * 1000)::int8, \
    coalesce(has_table_privilege(to_regclass('stockhold_schema'), 'SELECT'), false)";

/// A base backup is connected as a standby would be.
const STANDBYS: &str = "SELECT coalesce(application_name, '?'), coalesce(sync_state, '?') \
    FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY 1";

/// Where our tables are; if they are nowhere, where they would be made. Postgres itself passes over
/// schemas that the role may not use, as if they were not there.
const NAMESPACE: &str = "SELECT pg_namespace.oid, quote_ident(nspname) AS name, \
        has_schema_privilege(pg_namespace.oid, 'USAGE') AS usable, \
        has_schema_privilege(pg_namespace.oid, 'USAGE') \
            AND has_schema_privilege(pg_namespace.oid, 'CREATE') AS free, is_ours \
    FROM unnest(string_to_array(current_setting('search_path'), ',')) \
        WITH ORDINALITY AS path (word, n) \
    JOIN pg_namespace ON nspname = btrim(replace(word, '\"$user\"', current_user), '\" ') \
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_class \
        WHERE relnamespace = pg_namespace.oid AND relname = 'stockhold_schema') AS is_ours) AS ours \
    ORDER BY is_ours DESC, usable DESC, n LIMIT 1";

/// A shop that moves in sets the numbers of its items behind those that are there.
const RIGHTS: &str = "SELECT 'USAGE on schema ' || name FROM namespace WHERE is_ours AND NOT usable \
    UNION ALL SELECT what || ' on ' || relname FROM namespace \
        JOIN pg_class ON relnamespace = namespace.oid \
        JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS w (what) \
            ON relname = ANY ($1) OR (relname = 'stockhold_schema' AND what = 'SELECT') \
        WHERE is_ours AND NOT has_table_privilege(pg_class.oid, what) \
    UNION ALL SELECT 'UPDATE on sequence ' || relname FROM namespace \
        JOIN pg_class ON relnamespace = namespace.oid AND relname = 'stock_item_seq' \
        WHERE is_ours AND NOT has_sequence_privilege(pg_class.oid, 'UPDATE') \
    UNION ALL SELECT 'EXECUTE on ' || proname FROM namespace \
        JOIN pg_proc ON pronamespace = namespace.oid AND proname = ANY ($2) \
        WHERE is_ours AND NOT has_function_privilege(pg_proc.oid, 'EXECUTE') \
    ORDER BY 1";

const OTHER_TABLES: &str = "SELECT relname::text FROM namespace \
    JOIN pg_class ON relnamespace = namespace.oid AND relname = ANY ($1) \
    WHERE NOT is_ours ORDER BY 1";

/// There may be no schema yet, so that a batch cannot be begun.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '500ms'; \
    SET LOCAL statement_timeout = '2s'";

/// In a transaction, as a batch is: what a role, a database or a pooler sets
/// is in force there.
pub(super) async fn look(connection: &mut Connection<'_>) -> Result<ServerFacts, Trouble> {
    let before = (SystemClock.wall(), SystemClock.boot());
    let server = connection.trip(async |client| {
        let (_, server) = tokio::try_join!(biased;
            client.batch_execute(BEGIN),
            client.query_typed_one(SERVER, &[]),
        )?;
        Ok(server)
    });
    let server = server.await?;
    let trip = SystemClock.boot().saturating_sub(before.1);
    let may_read: bool = rows::column(&server, 13)?;
    let others = connection.trip(async |client| {
        tokio::try_join!(biased;
            client.query_typed(STANDBYS, &[]),
            client.query_typed_opt(NAMESPACE, &[]),
            of_ours(client, RIGHTS),
            of_ours(client, OTHER_TABLES),
            schema(client, may_read),
            client.batch_execute("ROLLBACK"),
        )
    });
    let (standbys, namespace, rights, other_tables, schema, ()) = others.await?;
    let mut facts = ServerFacts::of(&server)?;
    facts.trip = trip;
    facts.ahead_ms = ahead(facts.clock, before.0, trip);
    for row in &standbys {
        facts.standbys.push((rows::column(row, 0)?, rows::column(row, 1)?));
    }
    if let Some(row) = namespace {
        (facts.namespace, facts.can_create) = (rows::column(&row, 1)?, rows::column(&row, 3)?);
        facts.has_tables = rows::column(&row, 4)?;
    }
    for (rows, names) in
        [(&rights, &mut facts.missing_rights), (&other_tables, &mut facts.other_tables)]
    {
        *names = rows.iter().map(|row| rows::column(row, 0)).collect::<Result<_, _>>()?;
    }
    facts.schema = schema.map(|row| rows::column(&row, 0)).transpose()?;
    facts.sealed = sealed(connection, &facts).await?;
    Ok(facts)
}

/// What there is to say of the tables and functions of our names.
async fn of_ours(client: &Client, ask: &str) -> Result<Vec<Row>, Error> {
    let asked = format!("WITH namespace AS ({NAMESPACE}) {ask}");
    let (tables, functions) = (TABLES.as_slice(), FUNCTIONS.as_slice());
    let names = [(&tables as _, Type::TEXT_ARRAY), (&functions as _, Type::TEXT_ARRAY)];
    client.query_typed(&asked, &names).await
}

async fn schema(client: &Client, may_read: bool) -> Result<Option<Row>, Error> {
    if !may_read {
        return Ok(None);
    }
    client.query_typed_opt("SELECT version FROM stockhold_schema", &[]).await
}

/// Why the ledger is sealed, if that can be read.
async fn sealed(
    connection: &mut Connection<'_>,
    facts: &ServerFacts,
) -> Result<Option<String>, Trouble> {
    let is_hidden = facts.missing_rights.iter().any(|right| right == "SELECT on ledger");
    if facts.schema != Some(THIS_VERSION) || is_hidden {
        return Ok(None);
    }
    let read = connection
        .trip(async |client| client.query_typed_opt("SELECT sealed FROM ledger", &[]).await);
    Ok(read.await?.map(|row| rows::column(&row, 0)).transpose()?.flatten())
}

/// Its clock was read half a trip after we looked at ours, as far as anybody knows.
fn ahead(clock: Timestamp, before: Timestamp, trip: Duration) -> i64 {
    let half = i64::try_from(trip.as_millis() / 2).unwrap_or(i64::MAX);
    clock.as_millis().saturating_sub(before.as_millis()).saturating_sub(half)
}

impl ServerFacts {
    fn of(row: &Row) -> Result<Self, Damaged> {
        Ok(Self {
            route: None,
            version: rows::column(row, 0)?,
            role: rows::column(row, 1)?,
            tls: rows::column(row, 2)?,
            synchronous_commit: rows::column(row, 3)?,
            synchronous_standby_names: rows::column(row, 4)?,
            standbys: Vec::new(),
            fsync: rows::column(row, 5)?,
            full_page_writes: rows::column(row, 6)?,
            autovacuum: rows::column(row, 7)?,
            in_recovery: rows::column(row, 8)?,
            read_only: rows::column(row, 9)?,
            max_connections: rows::column(row, 10)?,
            other_connections: rows::column(row, 11)?,
            clock: rows::timestamp(row, 12)?,
            ahead_ms: 0,
            trip: Duration::ZERO,
            has_tables: false,
            schema: None,
            sealed: None,
            other_tables: Vec::new(),
            namespace: None,
            can_create: false,
            missing_rights: Vec::new(),
        })
    }

    /// Whether the schema has to be made or brought to this version.
    fn wants_migration(&self) -> bool {
        !self.has_tables || self.schema.is_some_and(|version| version < THIS_VERSION)
    }
}
