//! The server: its databases, and who is connected.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use tokio_postgres::{Client, NoTls};

use super::{super::workload::Random, Asking, Fault, url::PostgresUrl};

/// A server on which this role may make databases.
pub(in super::super) struct Server {
    url: PostgresUrl,
    admin: Client,
    /// What the names of all databases of this run begin with.
    prefix: String,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    count: u64,
    names: BTreeSet<String>,
}

impl Server {
    pub(in super::super) async fn reach(url: &PostgresUrl) -> Result<Self, Fault> {
        let admin = connect(&url.text()).await?;
        let may = "SELECT rolcreatedb OR rolsuper, rolname FROM pg_roles \
                   WHERE rolname = current_user";
        let row = admin.query_one(may, &[]).await.asking("asking for the role's rights")?;
        let (may, role): (bool, String) = (row.get(0), row.get(1));
        if !may {
            return Err(Fault::error(format!(
                "the role {role} may not make databases, and every row needs one of its own: \
                 ALTER ROLE {role} CREATEDB"
            )));
        }
        let prefix = format!("stockhold_bench_{:08x}", Random::new().next() >> 32);
        Ok(Self { url: url.clone(), admin, prefix, made: Mutex::default() })
    }

    pub(super) const fn admin(&self) -> &Client {
        &self.admin
    }

    pub(in super::super) fn url_of(&self, database: &str) -> String {
        self.url.of_database(database)
    }

    /// Makes a database, empty or like this one, to which nobody may be connected.
    pub(in super::super) async fn create(&self, template: Option<&str>) -> Result<String, Fault> {
        let name = self.next_name();
        let template = template.unwrap_or("template0");
        // Copies files, which is quick, and leaves nothing to be written out while a row is
        // measured. Servers before 15 know no other way.
        let strategy = if self.has_strategies().await? { " STRATEGY file_copy" } else { "" };
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}{strategy}");
        self.admin.batch_execute(&create).await.asking("making a database")?;
        Ok(name)
    }

    fn next_name(&self) -> String {
        let mut made = self.made();
        made.count += 1;
        let name = format!("{}_{}", self.prefix, made.count);
        made.names.insert(name.clone());
        name
    }

    async fn has_strategies(&self) -> Result<bool, Fault> {
        let version = "SELECT current_setting('server_version_num')::int >= 150000";
        let row = self.admin.query_one(version, &[]).await.asking("asking for the version")?;
        Ok(row.get(0))
    }

    /// Drops a database, whoever is connected to it.
    pub(super) async fn drop(&self, name: &str) -> Result<(), Fault> {
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        self.admin.batch_execute(&drop).await.asking("dropping a database")?;
        self.made().names.remove(name);
        Ok(())
    }

    /// Drops all that were made here.
    pub(in super::super) async fn drop_all(&self) -> Result<(), Fault> {
        let names = self.made().names.clone();
        for name in names {
            self.drop(&name).await?;
        }
        Ok(())
    }

    /// Does this, and says how many connections to the database there were at most.
    pub(super) async fn watched<T>(
        &self,
        database: &str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<(T, u64), Fault> {
        const PAUSE: Duration = Duration::from_millis(200);
        let (mut work, mut most) = (pin!(work), 0);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok((done?, most)),
                () = SystemClock.sleep(PAUSE) => {
                    // Not counting the bench's own, which the row has no part in.
                    let open = self.connections(database).await?.saturating_sub(1);
                    most = most.max(open);
                }
            }
        }
    }

    async fn connections(&self, database: &str) -> Result<u64, Fault> {
        let count = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = $1 AND backend_type = 'client backend'";
        let row = self.admin.query_one(count, &[&database]).await.asking("counting connections")?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// How many more connections the server will take, with some to spare.
    pub(super) async fn free_connections(&self) -> Result<usize, Fault> {
        const SPARE: i64 = 5;
        let free = "SELECT current_setting('max_connections')::bigint \
                    - current_setting('superuser_reserved_connections')::bigint \
                    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
        let row = self.admin.query_one(free, &[]).await.asking("counting connections")?;
        Ok(usize::try_from(row.get::<_, i64>(0).saturating_sub(SPARE)).unwrap_or(0).max(1))
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of its own; it ends when the client is dropped.
pub(super) async fn connect(url: &str) -> Result<Client, Fault> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.asking("connecting to Postgres")?;
    // Whatever ends it, the client's next statement says so.
    tokio::spawn(connection);
    Ok(client)
}
