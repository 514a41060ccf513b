//! What becomes of each key of a model's file: it is used, known to be harmless, or refused by name.
//!
//! The readers note the keys they use. For the others there are tables of rules; a key that is in
//! none of them may change what the model computes, so it is refused unless the caller says otherwise.

use std::collections::BTreeSet;

/// A key of a model's file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// Its name; parts of nested keys are separated by dots.
    pub name: String,
    /// Its value, shortened.
    pub value: String,
    /// What became of it.
    pub usage: KeyUsage,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyUsage {
    /// It says what the model computes, or how its text is read.
    Used,
    /// It changes nothing, for this reason.
    Harmless(&'static str),
    /// It is unknown, and the caller asked to load the model in spite of it.
    Ignored,
}

/// What a key that no reader used means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meaning {
    /// The tokenizer, or the chat, is read from it.
    Elsewhere,
    /// Nothing for the numbers, for this reason.
    Harmless(&'static str),
    /// Nothing while it has one of these values; what it otherwise asks for is not supported.
    Off(&'static [&'static str]),
}

/// Keys, by name or, with a `*` at one end, by how they begin or end, and their meaning.
pub(crate) type Rule = (&'static [&'static str], Meaning);

/// Why a file's keys cannot be accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyFault {
    /// A known key, and what it is set to.
    NotOff { name: String, value: String },
    /// An unknown key.
    Unknown { name: String, value: String },
    /// A key to be ignored that the file does not have, or that is used.
    NotIgnorable { name: String, used: bool },
}

impl KeyFault {
    /// The same, of a key whose name begins with this.
    pub(crate) fn named(self, prefix: &str) -> Self {
        let full = |name: String| format!("{prefix}{name}");
        match self {
            Self::NotOff { name, value } => Self::NotOff {
                name: full(name),
                value,
            },
            Self::Unknown { name, value } => Self::Unknown {
                name: full(name),
                value,
            },
            Self::NotIgnorable { name, used } => Self::NotIgnorable {
                name: full(name),
                used,
            },
        }
    }

    /// What is not supported, and what to do, as [`crate::Error::Unsupported`] says them.
    pub(crate) fn words(self) -> (String, String) {
        match self {
            Self::NotOff { name, value } => {
                let what = format!("{name} = {value}");
                (what, "models without it are".into())
            }
            Self::Unknown { name, value } => (
                format!("the key {name} = {value}"),
                format!(
                    "it is unknown and may change what the model computes; if it does not, ignore it \
                     (--ignore-key {name})"
                ),
            ),
            Self::NotIgnorable { name, used } => (
                format!("ignoring the key {name}"),
                if used {
                    "it is known, and the model is read with it".into()
                } else {
                    "the file does not have it".into()
                },
            ),
        }
    }
}

/// Judges all keys of a file: their names and values, which of them were used, what the others mean,
/// and unknown ones to accept.
pub(crate) fn judge(
    keys: impl IntoIterator<Item = (String, String)>,
    used: &BTreeSet<String>,
    meaning: impl Fn(&str) -> Option<Meaning>,
    ignored: &[String],
) -> Result<Vec<Key>, KeyFault> {
    let mut judged = Vec::new();
    for (name, value) in keys {
        let is_used = used.contains(&name);
        let usage = match meaning(&name) {
            _ if is_used => KeyUsage::Used,
            Some(Meaning::Elsewhere) => KeyUsage::Used,
            Some(Meaning::Harmless(why)) => KeyUsage::Harmless(why),
            Some(Meaning::Off(values)) if values.contains(&&*value) => {
                KeyUsage::Harmless("it is off")
            }
            _ if ignored.contains(&name) => KeyUsage::Ignored,
            Some(Meaning::Off(_)) => return Err(KeyFault::NotOff { name, value }),
            None => return Err(KeyFault::Unknown { name, value }),
        };
        judged.push(Key { name, value, usage });
    }
    for name in ignored {
        let found = judged.iter().find(|key| key.name == *name);
        if found.is_none_or(|key| key.usage == KeyUsage::Used) {
            return Err(KeyFault::NotIgnorable {
                name: name.clone(),
                used: found.is_some(),
            });
        }
    }
    Ok(judged)
}

/// What a key means by these rules.
pub(crate) fn find(rules: &[Rule], name: &str) -> Option<Meaning> {
    let matches = |pattern: &str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(start), _) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name == pattern,
    };
    let fits = |(patterns, _): &&Rule| patterns.iter().any(|pattern| matches(pattern));
    rules.iter().find(fits).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[Rule] = &[
        (&["note", "train.*"], Meaning::Harmless("nothing reads it")),
        (&["experts"], Meaning::Off(&["0", "null"])),
        (&["bos"], Meaning::Elsewhere),
    ];

    fn usage(key: &str, value: &str, ignored: &[&str]) -> Result<KeyUsage, KeyFault> {
        let ignored: Vec<String> = ignored.iter().map(|&key| key.into()).collect();
        let used = BTreeSet::from(["size".to_owned()]);
        let judged = judge(
            [(key.into(), value.into())],
            &used,
            |key| find(RULES, key),
            &ignored,
        );
        judged.map(|keys| keys[0].usage)
    }

    #[test]
    fn every_key_is_used_harmless_or_refused() {
        let harmless = Ok(KeyUsage::Harmless("nothing reads it"));
        assert_eq!(usage("size", "3", &[]), Ok(KeyUsage::Used));
        assert_eq!(usage("bos", "1", &[]), Ok(KeyUsage::Used));
        assert_eq!(usage("note", "x", &[]), harmless);
        assert_eq!(usage("train.rate", "x", &[]), harmless);
        assert_eq!(
            usage("experts", "0", &[]),
            Ok(KeyUsage::Harmless("it is off"))
        );
        for (key, value) in [("experts", "8"), ("unknown", "0"), ("notes", "x")] {
            let (what, _) = usage(key, value, &[]).unwrap_err().words();
            assert!(what.contains(key) && what.contains(value), "{what}");
            assert_eq!(usage(key, value, &[key]), Ok(KeyUsage::Ignored));
        }
    }

    #[test]
    fn a_key_that_cannot_be_ignored_is_not_asked_for_in_vain() {
        for (key, other, used) in [("size", "size", true), ("note", "absent", false)] {
            let name = other.to_owned();
            let fault = usage(key, "1", &[other]).unwrap_err();
            assert_eq!(fault, KeyFault::NotIgnorable { name, used });
        }
    }
}
