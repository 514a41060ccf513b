//! The API keys that requests may send.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Headers that hold a key alone.
const PLAIN: [&str; 2] = ["x-api-key", "api-key"];

/// The keys of a server, as digests: they are of one length, so comparing them takes the same time
/// for all.
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// The digests of some keys.
    pub fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| Sha256::digest(key).into()).collect())
    }

    /// Whether the headers hold one of the keys: as OpenAI's clients send it, or as Anthropic's and
    /// Azure's do. Every key is compared, whichever it is.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let plain = PLAIN.map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
        let given = std::iter::once(bearer).chain(plain.map(|key| key.map(str::trim)));
        let mut found = subtle::Choice::from(0);
        for given in given.flatten() {
            let given: [u8; 32] = Sha256::digest(given).into();
            for key in &self.0 {
                found |= key.ct_eq(&given);
            }
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
        for name in PLAIN {
            for (value, open) in [("two", true), ("Bearer two", false), ("", false)] {
                let mut headers = HeaderMap::new();
                headers.insert(name, value.parse().unwrap());
                assert_eq!(keys.allow(&headers), open, "{name}: {value}");
            }
        }
        assert!(!keys.allow(&HeaderMap::new()));
        assert!(Keys::new(&[]).allow(&HeaderMap::new()));
    }
}
