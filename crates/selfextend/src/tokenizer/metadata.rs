//! Typed access to GGUF metadata, with errors that name the key.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

use super::error::TokenizerError;

/// The metadata of one GGUF file.
#[derive(Clone, Copy)]
pub(super) struct Metadata<'a>(pub(super) &'a HashMap<String, Value>);

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
        let id = integer(value).ok_or_else(|| wrong_type(key, "an integer", value))?;
        match u32::try_from(id) {
            Ok(id) if (id as usize) < tokens => Ok(Some(id)),
            _ => Err(TokenizerError::IdOutOfRange { key, id, tokens }),
        }
    }

    /// The array of strings under `key`.
    pub(super) fn strings(self, key: &'static str) -> Result<Vec<&'a str>, TokenizerError> {
        self.array(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The array of integers under `key`.
    pub(super) fn integers(self, key: &'static str) -> Result<Vec<i64>, TokenizerError> {
        self.array(key, "an integer", integer)
    }

    /// The array of floats under `key`.
    pub(super) fn floats(self, key: &'static str) -> Result<Vec<f32>, TokenizerError> {
        self.array(key, "a float", |value| match value {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            _ => None,
        })
    }

    fn array<T>(
        self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, TokenizerError> {
        let values = match self.0.get(key) {
            None => return Err(TokenizerError::MissingKey { key }),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(wrong_type(key, "an array", other)),
        };
        let element = |(index, value)| {
            read(value).ok_or_else(|| wrong_type(&format!("{key}[{index}]"), expected, value))
        };
        values.iter().enumerate().map(element).collect()
    }
}

/// Converters disagree on the width and sign of integers, so any is accepted.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::U8(number) => Some((*number).into()),
        Value::I8(number) => Some((*number).into()),
        Value::U16(number) => Some((*number).into()),
        Value::I16(number) => Some((*number).into()),
        Value::U32(number) => Some((*number).into()),
        Value::I32(number) => Some((*number).into()),
        Value::U64(number) => i64::try_from(*number).ok(),
        Value::I64(number) => Some(*number),
        _ => None,
    }
}

fn wrong_type(key: &str, expected: &'static str, found: &Value) -> TokenizerError {
    let found = match found {
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::String(text) => format!("the string {text:?}"),
        other => format!("{other:?}"),
    };
    TokenizerError::WrongType {
        key: key.to_owned(),
        expected,
        found,
    }
}
