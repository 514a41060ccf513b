//! What became of each key of a model's file.

use selfextend::keys::{Key, KeyUsage};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What became of a key of the file.
#[derive(Debug, Serialize)]
pub struct KeyReport {
    key: String,
    value: String,
    used: bool,
    /// Why it has no effect.
    reason: Option<&'static str>,
}

impl From<Key> for KeyReport {
    fn from(key: Key) -> Self {
        let (used, reason) = match key.usage {
            KeyUsage::Harmless(reason) => (false, Some(reason)),
            KeyUsage::Ignored => (false, Some("ignored, as asked for")),
            _ => (true, None),
        };
        Self {
            key: key.name,
            value: key.value,
            used,
            reason,
        }
    }
}

/// Writes the keys that have no effect, by the reason.
pub fn write(keys: &[KeyReport], text: &mut String) {
    let mut reasons = BTreeMap::<_, Vec<&str>>::new();
    for key in keys {
        if let Some(reason) = key.reason {
            reasons.entry(reason).or_default().push(&key.key);
        }
    }
    if reasons.is_empty() {
        return;
    }
    text.push_str("\nKeys without effect:\n");
    for (reason, keys) in reasons {
        let _ = writeln!(text, "  {}: {reason}", keys.join(", "));
    }
}
