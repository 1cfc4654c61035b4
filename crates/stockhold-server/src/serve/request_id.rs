//! A name for every request, by which its answer and the log find each other.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Carries the name in both directions.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Takes the client's name for a request, or makes one up.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// Tells this process from others.
    process: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        // The only source of chance in the standard library.
        Self { process: RandomState::new().hash_one(0), next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(HEADER).filter(|value| is_sound(value)) {
            Some(value) => value.clone(),
            None => self.make(),
        }
    }

    fn make(&self) -> HeaderValue {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:016x}-{next:x}", self.process);
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }
}

fn is_sound(value: &HeaderValue) -> bool {
    const LONGEST: usize = 64;
    let bytes = value.as_bytes();
    (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static str) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static(value));
        RequestIds::default().of(&headers)
    }

    #[test]
    fn the_name_of_the_client_is_kept_if_it_is_sound() {
        assert_eq!(of("a-1"), "a-1");
        assert_ne!(of("a 1"), "a 1");
        assert_ne!(of(""), "");
    }

    #[test]
    fn no_two_requests_have_the_same_name() {
        let ids = RequestIds::default();
        assert_ne!(ids.make(), ids.make());
        assert!(is_sound(&ids.make()));
    }
}
