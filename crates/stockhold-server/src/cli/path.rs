//! The path of a request and its query, percent-encoded.

use std::fmt::{self, Display};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path that grows.
#[derive(Clone, Debug)]
pub(super) struct Path {
    text: String,
    next: char,
}

impl Path {
    /// Begins with this, which needs no encoding.
    pub(super) fn of(base: &str) -> Self {
        Self { text: base.to_owned(), next: '?' }
    }

    /// One part further down.
    pub(super) fn part(mut self, part: impl Display) -> Self {
        self.text.push('/');
        self.text.extend(utf8_percent_encode(&part.to_string(), ENCODED));
        self
    }

    /// Asks for a value, if there is one.
    pub(super) fn query(mut self, name: &str, value: Option<impl Display>) -> Self {
        let Some(value) = value else { return self };
        self.text.push(std::mem::replace(&mut self.next, '&'));
        self.text.push_str(name);
        self.text.push('=');
        self.text.extend(utf8_percent_encode(&value.to_string(), ENCODED));
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_shop_calls_its_things_stays_one_part() {
        let path = Path::of("/v1/stock").part("Größe 42/🧦?").part("adjustments");
        let path = path.query("location", Some("a&b=c")).query("limit", Some(7));
        assert_eq!(
            path.as_str(),
            "/v1/stock/Gr%C3%B6%C3%9Fe%2042%2F%F0%9F%A7%A6%3F/adjustments?location=a%26b%3Dc&limit=7"
        );
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let path = Path::of("/v1/stock").query("prefix", None::<&str>).query("limit", Some(1));
        assert_eq!(path.as_str(), "/v1/stock?limit=1");
    }
}
