//! The key-value pairs of a GGUF header.

use std::collections::BTreeMap;
use std::fmt;

/// The pairs of a header, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the types of the GGUF specification")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// A string that is not UTF-8.
    Bytes(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type, kept as the file has them: a vocabulary has hundreds of thousands.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    kind: Kind,
    bytes: Vec<u8>,
    /// Where each string ends; empty for other types.
    ends: Vec<usize>,
}

/// The types of values, in the order of their numbers in the file (`gguf.md` of the ggml project).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Sets a key, and returns the value it had.
    pub fn insert(&mut self, key: String, value: Value) -> Option<Value> {
        self.values.insert(key, value)
    }

    /// Removes a key, and returns the value it had.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key)
    }

    /// All pairs, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (&**key, value))
    }
}

impl FromIterator<(String, Value)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        Self {
            values: pairs.into_iter().collect(),
        }
    }
}

impl Value {
    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer of any width: converters do not agree on width and sign.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::I8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U64(n) => Some(n.into()),
            Self::I64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// A float of either width.
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// A value that is neither a string nor an array; `None` for bytes that the type does not allow.
    pub(super) fn scalar(kind: Kind, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            Kind::U8 => Self::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I8 => Self::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            Kind::U16 => Self::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I16 => Self::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            Kind::U32 => Self::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I32 => Self::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F32 => Self::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::U64 => Self::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I64 => Self::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F64 => Self::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::Bool => match bytes {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                _ => return None,
            },
            Kind::String | Kind::Array => return None,
        })
    }
}

/// As a message shows it: long strings are cut, arrays only counted.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        match self {
            Self::String(text) => match text.char_indices().nth(SHOWN) {
                Some((end, _)) => write!(f, "the string {:?}...", &text[..end]),
                None => write!(f, "the string {text:?}"),
            },
            Self::Bytes(bytes) => write!(f, "{} bytes that are not UTF-8", bytes.len()),
            Self::Array(array) => write!(f, "an array of {} {:?}", array.len(), array.kind),
            Self::Bool(value) => write!(f, "{value}"),
            other => match (other.as_integer(), other.as_float()) {
                (Some(n), _) => write!(f, "{n}"),
                (_, Some(x)) => write!(f, "{x}"),
                _ => Ok(()),
            },
        }
    }
}

impl Array {
    /// Values of a fixed size.
    pub(super) fn numbers(kind: Kind, bytes: Vec<u8>) -> Self {
        let ends = Vec::new();
        Self { kind, bytes, ends }
    }

    /// Strings one after the other, and where each ends.
    pub(super) fn of_strings(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        let kind = Kind::String;
        Self { kind, bytes, ends }
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        match self.kind.size() {
            Some(size) => self.bytes.len() / size,
            None => self.ends.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Strings, as bytes; `None` for values of another type. An empty array is one of any type.
    pub fn strings(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let strings = self.ends.iter().zip(starts);
        let fits = self.kind == Kind::String || self.is_empty();
        fits.then(|| strings.map(|(end, start)| &self.bytes[start..*end]))
    }

    /// Values of any type but strings, one by one.
    pub fn scalars(&self) -> impl Iterator<Item = Value> {
        let size = self.kind.size().unwrap_or(usize::MAX);
        let values = self.bytes.chunks_exact(size);
        values.filter_map(|bytes| Value::scalar(self.kind, bytes))
    }

    /// Integers of any width; `None` for values of another type.
    pub fn integers(&self) -> Option<impl Iterator<Item = i128>> {
        let fits = !matches!(self.kind, Kind::F32 | Kind::F64 | Kind::Bool | Kind::String);
        (fits || self.is_empty()).then(|| self.scalars().filter_map(|value| value.as_integer()))
    }

    /// Floats of either width; `None` for values of another type.
    pub fn floats(&self) -> Option<impl Iterator<Item = f64>> {
        let fits = matches!(self.kind, Kind::F32 | Kind::F64);
        (fits || self.is_empty()).then(|| self.scalars().filter_map(|value| value.as_float()))
    }
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type of a number in the file.
    pub(super) fn find(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Bytes of a value; `None` where they vary.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<Vec<i32>> for Value {
    fn from(numbers: Vec<i32>) -> Self {
        let bytes = numbers.into_iter().flat_map(i32::to_le_bytes).collect();
        Self::Array(Array::numbers(Kind::I32, bytes))
    }
}

impl From<Vec<f32>> for Value {
    fn from(numbers: Vec<f32>) -> Self {
        let bytes = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        Self::Array(Array::numbers(Kind::F32, bytes))
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for Array {
    /// An array of strings.
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for text in strings {
            bytes.extend_from_slice(text.as_ref());
            ends.push(bytes.len());
        }
        Self::of_strings(bytes, ends)
    }
}
