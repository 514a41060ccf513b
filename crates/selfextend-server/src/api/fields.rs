//! Fields of request bodies that take several forms, read in one pass and bounded while they are
//! read. serde's untagged enums would keep a copy of the whole field for their second attempt.

use super::numbers::from_float;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A list of at most so many entries.
#[derive(Debug)]
pub struct Few<T, const MOST: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Entries<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Entries<T, MOST> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a list of at most {MOST} entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
                read_list(list, MOST)
            }
        }
        reader
            .deserialize_seq(Entries::<T, MOST>(PhantomData))
            .map(Self)
    }
}

/// Reads a list of at most so many entries.
fn read_list<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    mut list: A,
    most: usize,
) -> Result<Vec<T>, A::Error> {
    let mut entries = Vec::new();
    while let Some(entry) = list.next_element()? {
        if entries.len() == most {
            return Err(A::Error::custom(format!("more than {most} entries")));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A text, or a list of at most so many entries of another type.
#[derive(Debug)]
pub enum TextOr<T, const MOST: usize> {
    Text(String),
    List(Vec<T>),
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for TextOr<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Either<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Either<T, MOST> {
            type Value = TextOr<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a text or a list of at most {MOST} entries")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                read_list(list, MOST).map(TextOr::List)
            }
        }
        reader.deserialize_any(Either::<T, MOST>(PhantomData))
    }
}

/// The most prompts of one request.
pub const MOST_PROMPTS: usize = 64;

/// Prompts of /v1/completions: a text, texts, token ids, or lists of those.
#[derive(Debug)]
pub enum Prompts {
    Texts(Vec<String>),
    Ids(Vec<Vec<u32>>),
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Prompts;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("prompt must be a text, a list of texts, a list of token ids, or a list of those")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Prompts, E> {
                Ok(Prompts::Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts, A::Error> {
                let (mut texts, mut many, mut ids) = (Vec::new(), Vec::new(), Vec::new());
                while let Some(entry) = list.next_element()? {
                    match entry {
                        Entry::Text(text) => texts.push(text),
                        Entry::Ids(list) => many.push(list),
                        Entry::Id(id) => ids.push(id),
                    }
                    if texts.len().max(many.len()) > MOST_PROMPTS {
                        return Err(A::Error::custom(format!(
                            "more than {MOST_PROMPTS} prompts"
                        )));
                    }
                }
                match (texts.is_empty(), many.is_empty(), ids.is_empty()) {
                    (_, true, true) => Ok(Prompts::Texts(texts)),
                    (true, false, true) => Ok(Prompts::Ids(many)),
                    (true, true, false) => Ok(Prompts::Ids(vec![ids])),
                    _ => Err(A::Error::custom("prompt mixes texts and token ids")),
                }
            }
        }
        reader.deserialize_any(Any)
    }
}

/// An entry of a list of prompts.
enum Entry {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text, a token id or a list of token ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
                Ok(Entry::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Entry, E> {
                let id = u32::try_from(id);
                id.map(Entry::Id)
                    .map_err(|_| E::custom("no token id is that large"))
            }

            fn visit_f64<E: Error>(self, id: f64) -> Result<Entry, E> {
                let id = from_float(id).and_then(|id| u64::try_from(id).ok());
                self.visit_u64(id.ok_or_else(|| E::custom("a token id is a whole number"))?)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Entry, A::Error> {
                read_list(list, usize::MAX).map(Entry::Ids)
            }
        }
        reader.deserialize_any(Any)
    }
}

/// `logprobs`: true or false for chats, a number for plain completions.
#[derive(Debug, Clone, Copy)]
pub enum Logprobs {
    Flag(bool),
    Count(usize),
}

impl<'de> Deserialize<'de> for Logprobs {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Logprobs;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("true or false (chat) or a number (completions)")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Logprobs, E> {
                Ok(Logprobs::Flag(flag))
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Logprobs, E> {
                Ok(Logprobs::Count(
                    usize::try_from(count).unwrap_or(usize::MAX),
                ))
            }

            fn visit_f64<E: Error>(self, count: f64) -> Result<Logprobs, E> {
                let count = from_float(count).and_then(|count| u64::try_from(count).ok());
                self.visit_u64(count.ok_or_else(|| E::custom("logprobs is a whole number"))?)
            }
        }
        reader.deserialize_any(Either)
    }
}

/// Whether a field is given: anything but null and an empty list, object or text. The value is
/// skipped.
#[derive(Debug, Default, Clone, Copy)]
pub struct Given(pub bool);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = bool;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E: Error>(self) -> Result<bool, E> {
                Ok(false)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
                Ok(true)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
                Ok(true)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
                Ok(true)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
                Ok(true)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
                Ok(!text.is_empty())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
                let mut given = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    given = true;
                }
                Ok(given)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<bool, A::Error> {
                let mut given = false;
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    given = true;
                }
                Ok(given)
            }
        }
        reader.deserialize_any(Any).map(Self)
    }
}

/// The most entries of `logit_bias`.
pub const MOST_BIASES: usize = 1024;

/// `logit_bias`: token ids as texts, and what to add to their logits.
#[derive(Debug, Default)]
pub struct Biases(pub Vec<(String, f32)>);

impl<'de> Deserialize<'de> for Biases {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(String, f32)>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(
                    f,
                    "an object of at most {MOST_BIASES} token ids and numbers"
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut biases = Vec::new();
                while let Some(entry) = object.next_entry()? {
                    if biases.len() == MOST_BIASES {
                        let message = format!("more than {MOST_BIASES} entries");
                        return Err(A::Error::custom(message));
                    }
                    biases.push(entry);
                }
                Ok(biases)
            }
        }
        reader.deserialize_map(Entries).map(Self)
    }
}
