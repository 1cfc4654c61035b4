//! Which server is asked, and as whom.

use std::{fmt, path::Path};

use hyper::{
    HeaderMap, Method, Request, Uri,
    header::{AUTHORIZATION, HOST, HeaderValue},
    http::uri::PathAndQuery,
};

use super::{CallError, tls::Trust, unspeakable};

/// Which server, and who asks.
#[derive(Clone)]
pub struct Target {
    pub(super) address: String,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    pub(super) trust: Option<Trust>,
}

impl Target {
    /// The server at `host:port`.
    ///
    /// # Errors
    /// [`CallError::Unspeakable`] for an address that cannot stand in a `Host` header.
    pub fn new(address: &str) -> Result<Self, CallError> {
        let host = HeaderValue::try_from(address).map_err(unspeakable)?;
        Ok(Self { address: address.into(), host, authorization: None, trust: None })
    }

    /// The same, asked with this access key.
    ///
    /// # Errors
    /// [`CallError::Unspeakable`] for a key that cannot stand in a header.
    pub fn with_key(mut self, key: &str) -> Result<Self, CallError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {key}")).map_err(unspeakable)?;
        bearer.set_sensitive(true);
        self.authorization = Some(bearer);
        Ok(self)
    }

    /// The same, over TLS: the server has to have a certificate for its name that is in this PEM
    /// file, or that is signed by one of those that are.
    ///
    /// # Errors
    /// [`CallError::Unspeakable`] if there are no certificates in the file, or the address has no
    /// name that could be in one.
    pub fn over_tls(mut self, authorities: &Path) -> Result<Self, CallError> {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        self.trust = Some(Trust::in_file(host, authorities)?);
        Ok(self)
    }

    pub(super) fn request<B>(
        &self,
        method: Method,
        path: &str,
        body: B,
    ) -> Result<Request<B>, CallError> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(PathAndQuery::try_from(path).map_err(unspeakable)?);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}
