//! A certificate for `localhost` that nobody has signed but itself, made for one test.

use std::path::PathBuf;

use rcgen::CertifiedKey;
use tempfile::TempDir;

/// The certificate and its key, in two files that go when this goes.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let CertifiedKey { cert, signing_key } = made;
        let certificate = Self { folder };
        std::fs::write(certificate.chain(), cert.pem()).unwrap();
        std::fs::write(certificate.key(), signing_key.serialize_pem()).unwrap();
        certificate
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    pub(crate) fn missing(&self) -> PathBuf {
        self.folder.path().join("missing.pem")
    }
}
