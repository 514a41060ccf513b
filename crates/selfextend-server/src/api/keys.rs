//! The API keys that requests may send.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The keys of a server, as digests: they are of one length, so comparing them takes the same time
/// for all.
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// The digests of some keys.
    pub fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| Sha256::digest(key).into()).collect())
    }

    /// Whether the headers hold one of the keys. Every key is compared, whichever it is.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let given: [u8; 32] = Sha256::digest(bearer.unwrap_or_default()).into();
        let mut found = subtle::Choice::from(0);
        for key in &self.0 {
            found |= key.ct_eq(&given);
        }
        found.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_map(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    #[test]
    fn any_of_the_keys_opens() {
        let keys = Keys::new(&["one".into(), "two".into()]);
        for (value, open) in [
            ("Bearer one", true),
            ("bearer two", true),
            ("Bearer three", false),
            ("Bearer on", false),
            ("Bearer ", false),
            ("Basic one", false),
            ("one", false),
        ] {
            assert_eq!(keys.allow(&header_map(value)), open, "{value}");
        }
        assert!(!keys.allow(&HeaderMap::new()));
        assert!(Keys::new(&[]).allow(&HeaderMap::new()));
    }
}
