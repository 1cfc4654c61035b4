//! The certificate of the service and its key: whether a server could serve with them, until when,
//! and who else can read the key.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use tokio_rustls::rustls::{
    CertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::check::Check;
use crate::serve::Tls;

/// Whether the certificate and the key belong together, and the chain is valid for a while.
pub(super) fn certificate(certificate: &Path, key: &Path) -> Check {
    if let Err(wrong) = Tls::read(certificate, key) {
        let next = "server.tls_certificate names a PEM file with the chain, the server's own \
                    certificate first; server.tls_key one with its private key";
        return Check::bad(NAME, wrong.to_string(), next);
    }
    let now = u64::try_from(SystemClock.wall().as_millis()).unwrap_or_default() / 1_000;
    term_verdict(now, Term::of_file(certificate))
}

const NAME: &str = "certificate";

/// Whether others on this machine can read the key. A group may: it is given on purpose.
pub(super) fn key_file(key: &Path) -> Check {
    const NAME: &str = "private key";
    const OTHERS: u32 = 0o007;
    let shown = key.display();
    match fs::metadata(key).map(|meta| meta.permissions().mode() & 0o777) {
        Ok(mode) if mode & OTHERS != 0 => {
            let found = format!("{shown} is open to everybody on this machine ({mode:o})");
            Check::warn(NAME, found, format!("chmod o= {shown}"))
        }
        Ok(mode) => Check::ok(NAME, format!("{shown} ({mode:o})")),
        Err(error) => {
            let next = "let the user who runs the server read it, and nobody else";
            Check::bad(NAME, format!("{shown}: {error}"), next)
        }
    }
}

/// When a chain is valid, in seconds since 1970: as long as every certificate in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    from: u64,
    to: u64,
}

impl Term {
    /// None if there is a certificate that does not say so.
    fn of_file(certificate: &Path) -> Option<Self> {
        let chain = CertificateDer::pem_file_iter(certificate).ok()?;
        let terms: Option<Vec<_>> = chain.map(|link| Self::of(&link.ok()?)).collect();
        terms?.into_iter().reduce(|a, b| Self { from: a.from.max(b.from), to: a.to.min(b.to) })
    }

    /// Whoever checks a certificate for a moment far away is told when it begins, or ended.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        const LONG_AGO: u64 = 0;
        const FAR_AHEAD: u64 = u64::MAX >> 1;
        let from = match complaint(certificate, LONG_AGO)? {
            CertificateError::NotValidYetContext { not_before, .. } => not_before.as_secs(),
            _ => LONG_AGO,
        };
        match complaint(certificate, FAR_AHEAD)? {
            CertificateError::ExpiredContext { not_after, .. } => {
                Some(Self { from, to: not_after.as_secs() })
            }
            _ => None,
        }
    }
}

/// What is wrong with a certificate at that moment. Its dates are looked at before anything else,
/// and nobody is trusted, so there is always something.
fn complaint(certificate: &CertificateDer<'_>, at: u64) -> Option<CertificateError> {
    let (parsed, nobody) = (ParsedCertificate::try_from(certificate).ok()?, RootCertStore::empty());
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], at, algorithms) {
        Err(Error::InvalidCertificate(complaint)) => Some(complaint),
        Err(_) | Ok(()) => None,
    }
}

fn term_verdict(now: u64, term: Option<Term>) -> Check {
    const SOON: u64 = 14 * 24 * 60 * 60;
    const NEXT: &str = "put a new one in its place, and start the server again: it reads it then";
    let Some(Term { from, to }) = term else {
        return Check::warn(NAME, "it does not say until when it is valid".to_owned(), NEXT);
    };
    let found = format!("valid from {} to {}", shown(from), shown(to));
    if now < from {
        return Check::bad(NAME, found, "wait, or set the clock of this machine if it is late");
    }
    match to.checked_sub(now) {
        None => Check::bad(NAME, format!("{found}: it has expired"), NEXT),
        Some(left) if left < SOON => Check::warn(NAME, format!("{found}: soon over"), NEXT),
        Some(_) => Check::ok(NAME, found),
    }
}

fn shown(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    moment.map_or_else(|| "for ever".to_owned(), |moment| format!("{moment:.0}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::{super::check::Verdict, *};

    const DAY: u64 = 24 * 60 * 60;
    /// The first of January, 2026 and 2027.
    const YEAR: Term = Term { from: 1_767_225_600, to: 1_798_761_600 };

    /// A certificate for 2026, and its key, in PEM.
    fn made() -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn the_dates_of_a_certificate_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("certificate.pem");
        fs::write(&file, made().0).unwrap();
        assert_eq!(Term::of_file(&file), Some(YEAR));
        let endless = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&file, made().0 + &endless.cert.pem()).unwrap();
        assert_eq!(Term::of_file(&file), Some(YEAR), "a chain is as good as its weakest link");
    }

    #[test]
    fn a_certificate_is_good_until_it_is_soon_over() {
        let verdict = |now| term_verdict(now, Some(YEAR)).verdict;
        assert_eq!(verdict(YEAR.from - 1), Verdict::Bad);
        assert_eq!(verdict(YEAR.from), Verdict::Ok);
        assert_eq!(verdict(YEAR.to - 15 * DAY), Verdict::Ok);
        assert_eq!(verdict(YEAR.to - 13 * DAY), Verdict::Warn);
        assert_eq!(verdict(YEAR.to + 1), Verdict::Bad);
        assert_eq!(term_verdict(YEAR.from, None).verdict, Verdict::Warn);
    }

    #[test]
    fn files_that_no_server_could_take_are_bad() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let ((pem, _), (_, another)) = (made(), made());
        let (pem, another) = (file("certificate.pem", &pem), file("another.pem", &another));
        for (pem, key) in [(&pem, &another), (&folder.path().join("missing.pem"), &another)] {
            let check = certificate(pem, key);
            assert_eq!(check.verdict, Verdict::Bad, "{check:?}");
            assert!(check.found.contains("certificate"), "{check:?}");
        }
    }

    #[test]
    fn a_key_that_everybody_can_read_is_told() {
        let key = tempfile::NamedTempFile::new().unwrap();
        for (mode, verdict) in [(0o600, Verdict::Ok), (0o640, Verdict::Ok), (0o644, Verdict::Warn)]
        {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(key.path(), mode).unwrap();
            assert_eq!(key_file(key.path()).verdict, verdict);
        }
        assert_eq!(key_file(Path::new("/missing/key.pem")).verdict, Verdict::Bad);
    }
}
