//! What to do about a server that cannot be asked, by the cause.

use std::{error::Error as StdError, io};

use tokio_postgres::Error;

use crate::Failure;

/// What to look at when a Postgres server could not be reached, or does not let this machine in.
#[must_use]
pub fn advice(failure: &Failure) -> &'static str {
    let first = failure.source();
    let causes = || std::iter::successors(first, |cause| (*cause).source());
    let all = format!("{}", failure.chain());
    let said = |word: &str| all.contains(word);
    // Who insists on TLS refuses others as if it were for their names.
    if ["sslrootcert", "no encryption"].into_iter().any(said) {
        return TLS;
    }
    let code = causes().find_map(|cause| cause.downcast_ref::<Error>()?.code());
    if let Some(code) = code {
        return of_code(code.code());
    }
    if said("password missing") {
        return "name a passwordfile= in the URL, or set PGPASSWORD";
    }
    if ["TLS", "certificate", "SSL"].into_iter().any(said) {
        return TLS;
    }
    if said("lookup") {
        return "is the name of the host in the URL right, and can this machine look it up?";
    }
    let kind = causes().find_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    match kind {
        Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            "is Postgres started, and does it listen at the host and port of the URL \
             (listen_addresses, port, unix_socket_directories)?"
        }
        _ => {
            "is the host of the URL right, is Postgres started there, and does no firewall stand \
             between?"
        }
    }
}

const TLS: &str = "do sslmode and sslrootcert of the URL suit the certificate of the server, and does it \
                   speak TLS at all (ssl = on)?";

fn of_code(code: &str) -> &'static str {
    match code {
        "3D000" => "createdb --owner ROLE NAME, or check the name of the database in the URL",
        "28000" | "28P01" => {
            "check the user of the URL and its password (passwordfile=, PGPASSWORD), and whether \
             pg_hba.conf lets it in from this machine"
        }
        "53300" => "raise max_connections, or the CONNECTION LIMIT of the role, or end sessions",
        "57P01" | "57P02" | "57P03" => "wait until it has started, and ask again",
        "42501" => "let the role connect: GRANT CONNECT ON DATABASE NAME TO ROLE",
        _ => "look into the log of Postgres",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind;

    #[test]
    fn each_cause_has_an_advice_of_its_own() {
        let failure = |cause: io::Error| {
            Failure::new(FailureKind::Unavailable, "Postgres does not answer").caused_by(cause)
        };
        for (cause, told) in [
            (io::Error::from(io::ErrorKind::ConnectionRefused), "is Postgres started"),
            (io::Error::from(io::ErrorKind::TimedOut), "no firewall"),
            (io::Error::other("failed to lookup address information"), "look it up"),
            (io::Error::other("invalid peer certificate: UnknownIssuer"), "sslrootcert"),
            (io::Error::other("no pg_hba.conf entry for user, no encryption"), "sslmode"),
            (io::Error::other("password missing"), "PGPASSWORD"),
        ] {
            let said = advice(&failure(cause));
            assert!(said.contains(told), "{told} in {said}");
        }
    }
}
