//! Typed access to GGUF metadata, with errors that name the key.

use std::fmt::Display;

use crate::gguf::{self, Array, Value};

use super::error::TokenizerError;

/// The metadata of one GGUF file.
#[derive(Clone, Copy)]
pub(super) struct Metadata<'a>(pub(super) &'a gguf::Metadata);

impl<'a> Metadata<'a> {
    /// The string under `key`, if the key is there.
    pub(super) fn string(self, key: &'static str) -> Result<Option<&'a str>, TokenizerError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(key, "a string", other)),
        }
    }

    /// The truth value under `key`, if the key is there.
    pub(super) fn boolean(self, key: &'static str) -> Result<Option<bool>, TokenizerError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(key, "a bool", other)),
        }
    }

    /// The token id under `key`, if the key is there, checked against the vocabulary.
    pub(super) fn token_id(
        self,
        key: &'static str,
        tokens: usize,
    ) -> Result<Option<u32>, TokenizerError> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        let id = value.as_integer().and_then(|id| i64::try_from(id).ok());
        let id = id.ok_or_else(|| wrong_type(key, "an integer", value))?;
        match u32::try_from(id) {
            Ok(id) if (id as usize) < tokens => Ok(Some(id)),
            _ => Err(TokenizerError::IdOutOfRange { key, id, tokens }),
        }
    }

    /// The array of strings under `key`.
    pub(super) fn strings(self, key: &'static str) -> Result<Vec<&'a str>, TokenizerError> {
        const EXPECTED: &str = "an array of UTF-8 strings";
        let strings = self.array(key, EXPECTED, Array::strings)?;
        let text =
            |(index, bytes)| std::str::from_utf8(bytes).map_err(|_| not_utf8(key, index, bytes));
        strings.enumerate().map(text).collect()
    }

    /// The array of strings under `key`, with the bytes they have, UTF-8 or not.
    pub(super) fn byte_strings(self, key: &'static str) -> Result<Vec<&'a [u8]>, TokenizerError> {
        Ok(self
            .array(key, "an array of UTF-8 strings", Array::strings)?
            .collect())
    }

    /// The array of integers under `key`.
    pub(super) fn integers(self, key: &'static str) -> Result<Vec<i64>, TokenizerError> {
        const EXPECTED: &str = "an array of integers";
        let numbers = self.array(key, EXPECTED, Array::integers)?;
        let number = |(index, number)| {
            let key = || format!("{key}[{index}]");
            i64::try_from(number).map_err(|_| wrong_type(&key(), EXPECTED, number))
        };
        numbers.enumerate().map(number).collect()
    }

    /// The array of numbers under `key`: some converters write whole scores as integers.
    pub(super) fn floats(self, key: &'static str) -> Result<Vec<f32>, TokenizerError> {
        let floats = |array: &Array| -> Option<Vec<f32>> {
            match array.floats() {
                Some(floats) => Some(floats.map(|number| number as f32).collect()),
                None => Some(array.integers()?.map(|number| number as f32).collect()),
            }
        };
        self.array(key, "an array of numbers", floats)
    }

    /// Whether there is a value under `key`.
    pub(super) fn has(self, key: &str) -> bool {
        self.0.get(key).is_some()
    }

    fn array<T>(
        self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a Array) -> Option<T>,
    ) -> Result<T, TokenizerError> {
        let value = self.0.get(key);
        let value = value.ok_or(TokenizerError::MissingKey { key })?;
        let values = value.as_array().and_then(read);
        values.ok_or_else(|| wrong_type(key, expected, value))
    }
}

/// Of a string that must be text.
pub(super) fn not_utf8(key: &str, index: usize, bytes: &[u8]) -> TokenizerError {
    let value = Value::Bytes(bytes.to_vec());
    wrong_type(&format!("{key}[{index}]"), "a UTF-8 string", &value)
}

fn wrong_type(key: &str, expected: &'static str, found: impl Display) -> TokenizerError {
    TokenizerError::WrongType {
        key: key.to_owned(),
        expected,
        found: found.to_string(),
    }
}
