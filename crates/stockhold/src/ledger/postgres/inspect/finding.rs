//! What the facts mean, and what to do about them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Route, ServerFacts};

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Danger {
    /// It is well.
    None,
    /// Whoever runs it should know.
    Risk,
    /// What was answered can be lost, or nothing can be written at all.
    Unsafe,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// How much it matters.
    pub danger: Danger,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if it is well.
    pub next: String,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, danger: Danger::None, found: found.into(), next: String::new() }
    }

    fn risk(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, danger: Danger::Risk, found: found.into(), next: next.into() }
    }

    fn bad(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, danger: Danger::Unsafe, found: found.into(), next: next.into() }
    }
}

/// The oldest version that has all that is used here.
const OLDEST: i32 = 140_000;

impl ServerFacts {
    /// Everything that was looked at, for an instance with so many connections.
    #[must_use]
    pub fn findings(&self, connections: usize) -> Vec<Finding> {
        let mut findings = vec![self.of_version()];
        findings.extend([self.of_hosts(), self.of_other_tables()].into_iter().flatten());
        findings.push(self.of_role());
        findings.extend(self.dangers());
        findings.extend([
            self.of_full_page_writes(),
            self.of_standbys(),
            self.of_autovacuum(),
            self.of_connections(connections),
            self.of_clock(),
            self.of_tls(),
        ]);
        findings
    }

    /// What a server does not start with, unless it was told to.
    fn dangers(&self) -> [Finding; 3] {
        [self.of_writing(), self.of_commit(), self.of_fsync()]
    }

    fn of_version(&self) -> Finding {
        const NAME: &str = "postgres";
        let (major, minor) = (self.version / 10_000, self.version % 10_000);
        let host = self.route.as_ref().map(|route| format!(" on {}", route.host));
        let (host, schema) = (host.unwrap_or_default(), self.schema_in_words());
        let found = format!("version {major}.{minor}{host}, schema {schema}");
        if self.version < OLDEST {
            return Finding::bad(NAME, found, "take Postgres 14 or newer");
        }
        Finding::ok(NAME, found)
    }

    fn schema_in_words(&self) -> String {
        match self.schema {
            Some(version) => version.to_string(),
            None if self.has_tables => "not to be read by this role".to_owned(),
            None => "not there yet".to_owned(),
        }
    }

    /// A server that takes any host may take a standby, and stays there.
    fn of_hosts(&self) -> Option<Finding> {
        let route = self.route.as_ref()?;
        (route.hosts > 1 && route.takes_any).then(|| {
            let found = format!("{} hosts, and the first that answers is taken", route.hosts);
            let next = "leave target_session_attrs=any out of the URL: then the one that takes \
                        writes is found, also after a failover";
            Finding::risk("hosts", found, next)
        })
    }

    fn of_other_tables(&self) -> Option<Finding> {
        if self.other_tables.is_empty() {
            return None;
        }
        let found = format!("another program's tables are here: {}", self.other_tables.join(", "));
        let next = format!(
            "give stockhold a database of its own (createdb --owner {} NAME), and name it in the URL",
            self.role
        );
        Some(Finding::bad("tables", found, next))
    }

    fn of_role(&self) -> Finding {
        const NAME: &str = "role";
        let role = &self.role;
        if !self.missing_rights.is_empty() {
            let found = format!("{role} lacks {}", lacking(&self.missing_rights));
            let next = format!(
                "as the owner of the tables: {}or start as the role that made them",
                self.grants()
            );
            return Finding::bad(NAME, found, next);
        }
        if self.wants_migration() && !self.can_create {
            let found = format!("{role} may not make tables, and they are to be made");
            let Some(place) = &self.namespace else {
                let next = "search_path names no schema that exists: make it (CREATE SCHEMA), or set \
                            another search_path for this role and database (ALTER ROLE ... SET)";
                return Finding::bad(NAME, found, next);
            };
            let next = format!(
                "GRANT USAGE, CREATE ON SCHEMA {place} TO {role}; or start once as a role that may"
            );
            return Finding::bad(NAME, found, next);
        }
        Finding::ok(NAME, format!("{role} may do all that is needed"))
    }

    /// What gives the role the rights that it lacks, and no others: not everybody who owns the tables
    /// owns their schema.
    fn grants(&self) -> String {
        let (role, place) = (&self.role, self.namespace.as_deref().unwrap_or("public"));
        let kinds = self.missing_rights.iter().filter_map(|right| Some(Kind::of(right)?.0));
        let kinds = kinds.collect::<BTreeSet<_>>();
        let lacks = |kind| kinds.contains(&kind);
        let statements = [
            (lacks(Kind::Schema), "USAGE ON SCHEMA"),
            (lacks(Kind::Table), "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA"),
            (lacks(Kind::Sequence), "UPDATE ON ALL SEQUENCES IN SCHEMA"),
            (lacks(Kind::Function), "EXECUTE ON ALL FUNCTIONS IN SCHEMA"),
        ];
        let wanted = statements.into_iter().filter(|(is_missing, _)| *is_missing);
        wanted.map(|(_, what)| format!("GRANT {what} {place} TO {role}; ")).collect()
    }

    fn of_writing(&self) -> Finding {
        const NAME: &str = "writing";
        if self.in_recovery {
            let next = "connect to the primary: name all hosts in the URL, and the one that takes \
                        writes is found (target_session_attrs=read-write)";
            return Finding::bad(NAME, "this is a standby", next);
        }
        if self.read_only {
            let next = "set default_transaction_read_only = off for this role and database";
            return Finding::bad(NAME, "transactions are read-only", next);
        }
        Finding::ok(NAME, "a primary, which takes writes")
    }

    fn of_commit(&self) -> Finding {
        const NAME: &str = "commit";
        let found = format!("synchronous_commit = {}", self.synchronous_commit);
        let next = "set synchronous_commit = on for this role and database (ALTER ROLE ... SET), \
                    and look whether a pooler sets it";
        let waits = !self.synchronous_standby_names.is_empty();
        match self.synchronous_commit.as_str() {
            "on" | "remote_apply" => Finding::ok(NAME, found),
            "remote_write" | "local" if !waits => Finding::ok(NAME, found),
            "remote_write" => {
                let found = format!("{found}: the standby has written, but not synced");
                Finding::risk(NAME, found, next)
            }
            "local" => {
                let found = format!("{found}: no commit waits for the synchronous standby");
                Finding::bad(NAME, found, next)
            }
            _ => {
                let found = format!("{found}: holds are answered that a crash takes back");
                Finding::bad(NAME, found, next)
            }
        }
    }

    fn of_fsync(&self) -> Finding {
        const NAME: &str = "fsync";
        if self.fsync {
            return Finding::ok(NAME, "on");
        }
        let next = "set fsync = on in postgresql.conf and restart Postgres; a database that \
                    crashed without it is restored from a backup";
        Finding::bad(NAME, "off: a power cut destroys the database", next)
    }

    fn of_full_page_writes(&self) -> Finding {
        const NAME: &str = "full pages";
        if self.full_page_writes {
            return Finding::ok(NAME, "full_page_writes = on");
        }
        let next = "set full_page_writes = on, unless the file system never tears a page of 8 KiB, \
                    as ZFS does not";
        Finding::risk(NAME, "full_page_writes = off: a power cut can tear a page", next)
    }

    fn of_standbys(&self) -> Finding {
        const NAME: &str = "standby";
        let names = &self.synchronous_standby_names;
        let is_sync = |(_, state): &&(String, String)| matches!(state.as_str(), "sync" | "quorum");
        let all = self.standbys.iter().map(|(name, state)| format!("{name} ({state})"));
        let all = all.collect::<Vec<_>>().join(", ");
        match (names.is_empty(), self.standbys.iter().find(is_sync)) {
            _ if self.in_recovery => Finding::ok(NAME, "this one"),
            (true, _) if self.standbys.is_empty() => Finding::ok(NAME, "none"),
            (true, _) => {
                let next = "a failover can lose holds and confirms that were answered: name a \
                            standby in synchronous_standby_names, and set synchronous_commit = on";
                Finding::risk(NAME, format!("{all}: no commit waits for any"), next)
            }
            (false, Some(_)) => Finding::ok(NAME, all),
            (false, None) => {
                let found = format!("commits wait for {names:?}, and none of them is connected");
                let next = "start the standby: until then nothing is answered. If the role may not \
                            see it: GRANT pg_monitor";
                Finding::risk(NAME, found, next)
            }
        }
    }

    fn of_autovacuum(&self) -> Finding {
        const NAME: &str = "autovacuum";
        if self.autovacuum {
            return Finding::ok(NAME, "on");
        }
        let next = "set autovacuum = on and track_counts = on: without it a hot item gets slower \
                    by the minute";
        Finding::risk(NAME, "off", next)
    }

    fn of_connections(&self, wanted: usize) -> Finding {
        const NAME: &str = "connections";
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let (most, others) = (self.max_connections, self.other_connections);
        let found = format!("{most} at most, {others} in use; each instance takes up to {wanted}");
        let next = "raise max_connections, or the CONNECTION LIMIT that the role or the database \
                    has, or lower ledger.connections";
        if wanted > most {
            return Finding::bad(NAME, found, next);
        }
        if wanted > most.saturating_sub(others) {
            return Finding::risk(NAME, found, next);
        }
        Finding::ok(NAME, found)
    }

    fn of_clock(&self) -> Finding {
        const NAME: &str = "postgres clock";
        /// 2025 and 2100.
        const SANE: std::ops::Range<i64> = 1_735_689_600_000..4_102_444_800_000;
        const MOST: i64 = 1_000;
        let (ahead, trip) = (self.ahead_ms, self.trip);
        let found = format!("{ahead} ms ahead of this machine's, asked within {trip:.1?}");
        if !SANE.contains(&self.clock.as_millis()) {
            return Finding::bad(NAME, found, "set the clock of the machine of Postgres");
        }
        let unknown = i64::try_from(trip.as_millis()).unwrap_or(i64::MAX);
        if ahead.saturating_abs() > MOST.saturating_add(unknown) {
            let next = "let NTP set both clocks: holds go by that of Postgres, and logs and \
                        clients by theirs";
            return Finding::risk(NAME, found, next);
        }
        Finding::ok(NAME, found)
    }

    fn of_tls(&self) -> Finding {
        const NAME: &str = "postgres tls";
        match &self.route {
            _ if self.tls => Finding::ok(NAME, "yes"),
            Some(Route { host, is_local: false, .. }) => {
                let next = "set ssl = on in Postgres, and sslmode=verify-full and sslrootcert in the \
                            URL";
                let found = format!("no: what goes to {host} can be read and changed on the way");
                Finding::risk(NAME, found, next)
            }
            Some(_) | None => Finding::ok(NAME, "no"),
        }
    }
}

/// What a right is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Schema,
    Table,
    Sequence,
    Function,
}

impl Kind {
    /// Of a right such as `INSERT on hold`, with the right and the name.
    fn of(right: &str) -> Option<(Self, &str, &str)> {
        let (what, name) = right.split_once(" on ")?;
        let kind = match what {
            "USAGE" => Self::Schema,
            "EXECUTE" => Self::Function,
            _ if name.starts_with("sequence ") => Self::Sequence,
            _ => Self::Table,
        };
        Some((kind, what, name))
    }

    const fn many(self) -> &'static str {
        match self {
            Self::Schema => "schemas",
            Self::Table => "tables",
            Self::Sequence => "sequences",
            Self::Function => "functions",
        }
    }
}

/// What is lacking, by what it is lacking on: such as `SELECT, INSERT on 11 tables`.
fn lacking(rights: &[String]) -> String {
    let mut objects: BTreeMap<(Kind, &str), BTreeSet<(usize, &str)>> = BTreeMap::new();
    for (kind, what, name) in rights.iter().filter_map(|right| Kind::of(right)) {
        let order = ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().position(|one| *one == what);
        objects.entry((kind, name)).or_default().insert((order.unwrap_or(0), what));
    }
    let mut groups: BTreeMap<(Kind, Vec<&str>), Vec<&str>> = BTreeMap::new();
    for ((kind, name), rights) in objects {
        let rights = rights.into_iter().map(|(_, what)| what).collect();
        groups.entry((kind, rights)).or_default().push(name);
    }
    let groups = groups.into_iter().map(|((kind, rights), names)| match names.as_slice() {
        [name] => format!("{} on {name}", rights.join(", ")),
        names => format!("{} on {} {}", rights.join(", "), names.len(), kind.many()),
    });
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stockhold_core::Timestamp;

    use super::*;
    use crate::ledger::postgres::schema::THIS_VERSION;

    fn well() -> ServerFacts {
        ServerFacts {
            route: Some(route()),
            version: 170_006,
            role: "shop".to_owned(),
            tls: true,
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: String::new(),
            standbys: Vec::new(),
            fsync: true,
            full_page_writes: true,
            autovacuum: true,
            in_recovery: false,
            read_only: false,
            max_connections: 97,
            other_connections: 3,
            clock: Timestamp::from_millis(1_790_000_000_000),
            ahead_ms: -900,
            trip: Duration::from_millis(2),
            has_tables: true,
            schema: Some(THIS_VERSION),
            sealed: None,
            other_tables: Vec::new(),
            namespace: Some("public".to_owned()),
            can_create: false,
            missing_rights: Vec::new(),
        }
    }

    fn route() -> Route {
        Route { host: "db:5432".to_owned(), is_local: false, hosts: 1, takes_any: true }
    }

    fn standby(state: &str) -> Vec<(String, String)> {
        vec![("replica".to_owned(), state.to_owned())]
    }

    /// What is not well, by name.
    fn told(change: impl FnOnce(&mut ServerFacts)) -> Vec<(&'static str, Danger)> {
        let mut facts = well();
        change(&mut facts);
        let findings = facts.findings(8).into_iter().filter(|f| f.danger > Danger::None);
        let findings = findings.inspect(|f| assert!(!f.next.is_empty(), "{f:?}"));
        findings.map(|f| (f.name, f.danger)).collect()
    }

    #[test]
    fn a_server_that_is_well_has_no_danger() {
        assert_eq!(told(|_| {}), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_by_itself() {
        use Danger::{Risk, Unsafe};
        let off = || "off".to_owned();
        assert_eq!(told(|f| f.version = 130_010), [("postgres", Unsafe)]);
        assert_eq!(told(|f| f.missing_rights = vec!["INSERT on hold".into()]), [("role", Unsafe)]);
        let nothing = |f: &mut ServerFacts| (f.has_tables, f.schema) = (false, None);
        assert_eq!(told(nothing), [("role", Unsafe)]);
        let nowhere = |f: &mut ServerFacts| (f.has_tables, f.namespace) = (false, None);
        assert_eq!(told(nowhere), [("role", Unsafe)]);
        assert_eq!(told(|f| f.other_tables = vec!["hold".into()]), [("tables", Unsafe)]);
        assert_eq!(told(|f| f.tls = false), [("postgres tls", Risk)]);
        let local = |f: &mut ServerFacts| {
            (f.tls, f.route) = (false, Some(Route { is_local: true, ..route() }));
        };
        assert_eq!(told(local), []);
        let hosts = |f: &mut ServerFacts| f.route = Some(Route { hosts: 2, ..route() });
        assert_eq!(told(hosts), [("hosts", Risk)]);
        assert_eq!(told(|f| f.in_recovery = true), [("writing", Unsafe)]);
        assert_eq!(told(|f| f.read_only = true), [("writing", Unsafe)]);
        assert_eq!(told(|f| f.synchronous_commit = off()), [("commit", Unsafe)]);
        assert_eq!(told(|f| f.fsync = false), [("fsync", Unsafe)]);
        assert_eq!(told(|f| f.full_page_writes = false), [("full pages", Risk)]);
        assert_eq!(told(|f| f.standbys = standby("async")), [("standby", Risk)]);
        assert_eq!(told(|f| f.autovacuum = false), [("autovacuum", Risk)]);
        assert_eq!(told(|f| f.max_connections = 7), [("connections", Unsafe)]);
        assert_eq!(told(|f| f.other_connections = 90), [("connections", Risk)]);
        assert_eq!(told(|f| f.ahead_ms = -1_003), [("postgres clock", Risk)]);
        let past = Timestamp::from_millis(0);
        assert_eq!(told(|f| f.clock = past), [("postgres clock", Unsafe)]);
    }

    #[test]
    fn a_role_is_granted_what_it_lacks_where_the_tables_are() {
        let next = |rights: &[&str]| {
            let missing_rights = rights.iter().map(|right| (*right).to_owned()).collect();
            let namespace = Some("\"Shop\"".to_owned());
            ServerFacts { missing_rights, namespace, ..well() }.of_role().next
        };
        let tables = "as the owner of the tables: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL \
                      TABLES IN SCHEMA \"Shop\" TO shop; or start as the role that made them";
        assert_eq!(next(&["INSERT on hold"]), tables);
        let others = "as the owner of the tables: GRANT USAGE ON SCHEMA \"Shop\" TO shop; GRANT \
                      EXECUTE ON ALL FUNCTIONS IN SCHEMA \"Shop\" TO shop; or start as the role \
                      that made them";
        assert_eq!(next(&["EXECUTE on begin_batch", "USAGE on schema \"Shop\""]), others);
        let sequence = "as the owner of the tables: GRANT UPDATE ON ALL SEQUENCES IN SCHEMA \"Shop\" \
                        TO shop; or start as the role that made them";
        assert_eq!(next(&["UPDATE on sequence stock_item_seq"]), sequence);
    }

    #[test]
    fn rights_that_are_lacking_are_told_in_groups() {
        let rights = [
            "DELETE on active",
            "DELETE on hold",
            "EXECUTE on begin_batch",
            "SELECT on active",
            "SELECT on hold",
            "SELECT on stockhold_schema",
            "UPDATE on sequence stock_item_seq",
            "USAGE on schema shop",
        ];
        let told = "USAGE on schema shop; SELECT on stockhold_schema; SELECT, DELETE on 2 tables; \
                    UPDATE on sequence stock_item_seq; EXECUTE on begin_batch";
        assert_eq!(lacking(&rights.map(str::to_owned)), told);
    }

    #[test]
    fn a_schema_that_may_not_be_read_is_not_said_to_be_missing() {
        let found =
            |has_tables, schema| ServerFacts { has_tables, schema, ..well() }.of_version().found;
        assert_eq!(found(true, Some(1)), "version 17.6 on db:5432, schema 1");
        assert!(found(true, None).ends_with("schema not to be read by this role"));
        assert!(found(false, None).ends_with("schema not there yet"));
    }

    #[test]
    fn a_commit_waits_for_the_standby_that_is_named() {
        let with = |commit: &str, state| {
            told(|f| {
                f.synchronous_standby_names = "replica".to_owned();
                f.synchronous_commit = commit.to_owned();
                f.standbys = standby(state);
            })
        };
        assert_eq!(with("on", "sync"), []);
        assert_eq!(with("on", "quorum"), []);
        assert_eq!(with("on", "async"), [("standby", Danger::Risk)]);
        assert_eq!(with("local", "sync"), [("commit", Danger::Unsafe)]);
        assert_eq!(with("remote_write", "sync"), [("commit", Danger::Risk)]);
        assert_eq!(told(|f| f.synchronous_commit = "local".to_owned()), []);
    }
}
