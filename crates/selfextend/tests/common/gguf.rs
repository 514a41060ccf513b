//! Writes small GGUF files. Independent of the reader under test: layout and numbers are those of
//! `gguf.md` (ggml project).

// Each test file uses a part of this.
#![allow(dead_code)]

use std::path::Path;

/// A value, as the file has it.
#[derive(Clone)]
pub struct Field {
    /// The number of its type.
    pub kind: u32,
    pub bytes: Vec<u8>,
}

impl Field {
    pub fn u32(number: usize) -> Self {
        let number = u32::try_from(number).unwrap();
        Self {
            kind: 4,
            bytes: number.to_le_bytes().into(),
        }
    }

    pub fn f32(number: f32) -> Self {
        Self {
            kind: 6,
            bytes: number.to_le_bytes().into(),
        }
    }

    pub fn text(text: &str) -> Self {
        Self {
            kind: 8,
            bytes: string(text.as_bytes()),
        }
    }

    pub fn texts<S: AsRef<[u8]>>(texts: impl IntoIterator<Item = S>) -> Self {
        let texts: Vec<_> = texts
            .into_iter()
            .map(|text| string(text.as_ref()))
            .collect();
        Self::array(8, texts.len(), texts.concat())
    }

    pub fn i32s(numbers: impl IntoIterator<Item = i32>) -> Self {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(i32::to_le_bytes).collect();
        Self::array(5, bytes.len() / 4, bytes)
    }

    /// Values of a type by its number.
    pub fn array(kind: u32, count: usize, bytes: Vec<u8>) -> Self {
        let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()];
        Self {
            kind: 9,
            bytes: [&head.concat()[..], &bytes].concat(),
        }
    }
}

/// A tensor.
#[derive(Clone)]
pub struct Tensor {
    /// The number of its type.
    pub kind: u32,
    /// Rows first; the file has the length of a row first.
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn f32(shape: &[usize], numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self {
            kind: 0,
            shape: shape.into(),
            bytes,
        }
    }

    /// As `quantize_row_q4_0_ref` of ggml-quants.c.
    pub fn q4_0(shape: &[usize], numbers: &[f32]) -> Self {
        let block = |numbers: &[f32]| {
            let larger = |a: f32, b: &f32| if b.abs() > a.abs() { *b } else { a };
            let scale = numbers.iter().fold(0.0, larger) / -8.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let code = |x: f32| ((x * inverse + 8.5) as u8).min(15);
            let (low, high) = numbers.split_at(16);
            let codes = low.iter().zip(high).map(|(a, b)| code(*a) | code(*b) << 4);
            half(scale).into_iter().chain(codes).collect::<Vec<u8>>()
        };
        let bytes = numbers.chunks_exact(32).flat_map(block).collect();
        Self {
            kind: 2,
            shape: shape.into(),
            bytes,
        }
    }

    /// As `quantize_row_q8_0_ref` of ggml-quants.c.
    pub fn q8_0(shape: &[usize], numbers: &[f32]) -> Self {
        let block = |numbers: &[f32]| {
            let scale = numbers.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let codes = numbers.iter().map(|x| (x * inverse).round() as i8 as u8);
            half(scale).into_iter().chain(codes).collect::<Vec<u8>>()
        };
        let bytes = numbers.chunks_exact(32).flat_map(block).collect();
        Self {
            kind: 8,
            shape: shape.into(),
            bytes,
        }
    }
}

/// A half float.
pub fn half(number: f32) -> [u8; 2] {
    half::f16::from_f32(number).to_le_bytes()
}

/// Writes a file whose tensors lie one after the other, at multiples of 32 bytes.
pub fn write<K: AsRef<str>, N: AsRef<str>>(
    path: &Path,
    fields: &[(K, Field)],
    tensors: &[(N, Tensor)],
) {
    std::fs::write(path, file(32, fields, tensors)).unwrap();
}

/// The bytes of a file whose tensors lie at multiples of `alignment`.
pub fn file<K: AsRef<str>, N: AsRef<str>>(
    alignment: usize,
    fields: &[(K, Field)],
    tensors: &[(N, Tensor)],
) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    for count in [tensors.len(), fields.len()] {
        bytes.extend((count as u64).to_le_bytes());
    }
    for (key, field) in fields {
        bytes.extend(string(key.as_ref().as_bytes()));
        bytes.extend(field.kind.to_le_bytes());
        bytes.extend(&field.bytes);
    }
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        data.resize(data.len().next_multiple_of(alignment), 0);
        bytes.extend(string(name.as_ref().as_bytes()));
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        for length in tensor.shape.iter().rev() {
            bytes.extend((*length as u64).to_le_bytes());
        }
        bytes.extend(tensor.kind.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        data.extend(&tensor.bytes);
    }
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    bytes.extend(data);
    bytes
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

pub type Fields = Vec<(String, Field)>;
pub type Tensors = Vec<(String, Tensor)>;

/// The fields and tensors of a file whose tensors lie in the order of their list.
pub fn read(path: &Path) -> (Fields, Tensors) {
    let bytes = std::fs::read(path).unwrap();
    let mut at = 8;
    let number = |at: &mut usize| {
        *at += 8;
        u64::from_le_bytes(bytes[*at - 8..*at].try_into().unwrap()) as usize
    };
    let kind = |at: &mut usize| {
        *at += 4;
        u32::from_le_bytes(bytes[*at - 4..*at].try_into().unwrap())
    };
    let text = |at: &mut usize| {
        let length = number(at);
        *at += length;
        String::from_utf8(bytes[*at - length..*at].into()).unwrap()
    };
    let (tensors, fields) = (number(&mut at), number(&mut at));
    // Sizes of the types of values, by their numbers.
    let size = |kind: u32| [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][kind as usize];
    let skip = |at: &mut usize, kind: u32| match kind {
        8 => *at += number(at),
        kind => *at += size(kind),
    };
    let fields = (0..fields).map(|_| {
        let (key, kind) = (text(&mut at), kind(&mut at));
        let from = at;
        if kind == 9 {
            let inner = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            at += 4;
            for _ in 0..number(&mut at) {
                skip(&mut at, inner);
            }
        } else {
            skip(&mut at, kind);
        }
        let bytes = bytes[from..at].into();
        (key, Field { kind, bytes })
    });
    let fields: Vec<_> = fields.collect();
    let places = (0..tensors).map(|_| {
        let (name, dimensions) = (text(&mut at), kind(&mut at));
        let mut shape: Vec<usize> = (0..dimensions).map(|_| number(&mut at)).collect();
        shape.reverse();
        (name, shape, kind(&mut at), number(&mut at))
    });
    let places: Vec<_> = places.collect();
    let data = &bytes[at.next_multiple_of(32)..];
    let ends = places.iter().skip(1).map(|place| place.3);
    let ends: Vec<usize> = ends.chain([data.len()]).collect();
    let tensors = places.into_iter().zip(ends);
    let tensors = tensors.map(|((name, shape, kind, from), end)| {
        let bytes = data[from..end].into();
        (name, Tensor { kind, shape, bytes })
    });
    (fields, tensors.collect())
}
