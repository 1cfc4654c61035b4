//! What there is to say of a Postgres server.

use stockhold::ledger::postgres::{Danger, Finding, PostgresLedger, PostgresUrl};

use super::{
    super::{Fault, ledger_url::let_in, runtime},
    check::Check,
};

/// All that can be looked at; one complaint if it cannot be asked at all.
pub(super) fn checks(url: &PostgresUrl, connections: usize) -> Vec<Check> {
    let looked = runtime().and_then(|runtime| {
        runtime.block_on(PostgresLedger::inspect(&let_in(url))).map_err(Fault::from)
    });
    match looked {
        Ok(facts) => facts.findings(connections).into_iter().map(check).collect(),
        Err(fault) => {
            let next = "is the URL right, is Postgres started, does it let this machine in \
                        (listen_addresses, pg_hba.conf), is the password right, and do sslmode and \
                        sslrootcert suit its certificate?";
            vec![Check::bad("postgres", fault.to_string(), next)]
        }
    }
}

fn check(Finding { name, danger, found, next }: Finding) -> Check {
    match danger {
        Danger::None => Check::ok(name, found),
        Danger::Risk => Check::warn(name, found, next),
        Danger::Unsafe => Check::bad(name, found, next),
    }
}
