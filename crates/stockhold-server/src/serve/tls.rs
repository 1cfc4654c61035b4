//! TLS: the certificate of the service, and what is spoken under it.

use std::{fmt, path::Path, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    Accept, TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// A certificate and its key, ready to be served with.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why there is no certificate to serve with.
#[derive(Debug)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl Tls {
    /// How HTTP/2 is called when client and server agree on what to speak.
    pub(super) const HTTP2: &[u8] = b"h2";
    const HTTP1: &[u8] = b"http/1.1";

    /// Reads a certificate chain, the server's own first, and its private key: two PEM files.
    ///
    /// # Errors
    /// If one of them cannot be read, or they do not belong together; the message names it.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let wrong = |what: &str, path: &Path, error: &dyn fmt::Display| {
            TlsError(format!("the {what} in {}: {error}", path.display()))
        };
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|e| wrong("certificate", certificate, &e))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong("key", key, &e))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|e| wrong("certificate and key", certificate, &e))?;
        config.alpn_protocols = vec![Self::HTTP2.to_vec(), Self::HTTP1.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        self.0.accept(stream)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(...)")
    }
}
