//! What there is to say of a Postgres server.

use stockhold::{
    Failure,
    ledger::postgres::{Danger, Finding, PostgresLedger, PostgresUrl, ServerFacts, advice},
};

use super::{
    super::{Fault, ledger_url::let_in, runtime},
    check::{self, Check},
};

/// All that can be looked at; one complaint if it cannot be asked at all.
pub(super) fn checks(url: &PostgresUrl, connections: usize) -> Vec<Check> {
    match runtime() {
        Ok(runtime) => {
            let looked = runtime.block_on(PostgresLedger::inspect(&let_in(url)));
            looked.map_or_else(refused, |facts| of_facts(facts, connections))
        }
        Err(fault) => vec![Check::bad(NAME, fault.to_string(), "start it again")],
    }
}

const NAME: &str = "postgres";

fn of_facts(facts: ServerFacts, connections: usize) -> Vec<Check> {
    let findings = facts.findings(connections).into_iter().map(check);
    findings.chain(facts.sealed.map(check::sealed)).collect()
}

fn refused(failure: Failure) -> Vec<Check> {
    let next = advice(&failure);
    vec![Check::bad(NAME, Fault::from(failure).to_string(), next)]
}

fn check(Finding { name, danger, found, next }: Finding) -> Check {
    match danger {
        Danger::None => Check::ok(name, found),
        Danger::Risk => Check::warn(name, found, next),
        Danger::Unsafe => Check::bad(name, found, next),
    }
}
