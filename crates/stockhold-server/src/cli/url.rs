//! Where a server is.

use std::{fmt, str::FromStr};

use hyper::Uri;

/// `http://HOST[:PORT]` or `https://HOST[:PORT]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// With a port, always.
    pub(super) authority: String,
    /// Whether it speaks TLS.
    pub(super) is_sealed: bool,
}

impl Default for Url {
    fn default() -> Self {
        Self { authority: "127.0.0.1:7300".to_owned(), is_sealed: false }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a server is named as http://HOST:PORT or https://HOST:PORT".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let has_more = !matches!(uri.path(), "" | "/") || uri.query().is_some();
        let authority = uri.authority().filter(|a| !a.as_str().contains('@') && !has_more);
        let (is_sealed, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong()),
        };
        let authority = authority.filter(|a| !a.host().is_empty()).ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(usual_port);
        Ok(Self { authority: format!("{}:{port}", authority.host()), is_sealed })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_sealed { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url() {
        for (text, url) in [
            ("http://127.0.0.1:7300", "http://127.0.0.1:7300"),
            ("http://localhost:7300/", "http://localhost:7300"),
            ("http://[::1]:7300", "http://[::1]:7300"),
            ("http://shop.example", "http://shop.example:80"),
            ("https://shop.example", "https://shop.example:443"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), url);
        }
        for text in
            ["", "localhost:7300", "https://", "http://", "http://a/b", "http://u@h", "ftp://h"]
        {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
