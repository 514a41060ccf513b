//! Weights that a folder stores in several tensors each: codes, and what scales them.

use crate::tensor::{RawTensor, TensorFormat};
use ::safetensors::Dtype;
use ::safetensors::tensor::TensorInfo;
use half::bf16;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The `quant_method` of floats of 8 bits.
pub(super) const FP8: &str = "fp8";

/// Whether a `quant_method` is one whose tensors are read here.
pub(super) fn is_read(method: &str) -> bool {
    ["mxfp4", FP8].contains(&method)
}

/// Columns of a block of floats of 4 bits, and the bytes of their codes.
const BLOCK: usize = 32;
const BYTES: usize = BLOCK / 2;

/// Tensors that others make up, by their names.
#[derive(Debug, Default)]
pub(super) struct Packed {
    fours: HashMap<String, Fours>,
    eights: HashMap<String, Eights>,
    parts: HashSet<String>,
}

/// Floats of 4 bits: `*_blocks`, bytes of two codes, `[matrices, rows, blocks, 16]`, and `*_scales`,
/// exponents, `[matrices, rows, blocks]`. They make up a tensor `*.weight`.
#[derive(Debug)]
pub(super) struct Fours {
    pub blocks: String,
    pub scales: String,
    /// Matrices, rows, columns.
    pub shape: [usize; 3],
}

/// A matrix of floats of 8 bits, `*.weight`, and what they are multiplied by, block by block:
/// `*.weight_scale_inv`. Its numbers are those of bf16, as in DeepSeek's own conversion.
#[derive(Debug)]
pub(super) struct Eights {
    pub scales: String,
    /// Rows and columns of a block.
    block: [usize; 2],
}

impl Packed {
    /// Looks for them among the tensors of a folder with this config.json.
    ///
    /// # Errors
    /// Codes without their scales, or of another shape, as text.
    pub fn find<'a>(
        names: impl Iterator<Item = &'a str>,
        info: impl Fn(&str) -> Option<&'a TensorInfo>,
        config: &Value,
    ) -> Result<Self, String> {
        let mut packed = Self::default();
        for name in names {
            if let Some(stem) = name.strip_suffix("_blocks") {
                let fours = Fours::new(stem, name, &info)?;
                let parts = [&fours.blocks, &fours.scales];
                packed.parts.extend(parts.map(String::clone));
                packed.fours.insert(format!("{stem}.weight"), fours);
            } else if let Some(weight) = name.strip_suffix("_scale_inv") {
                let eights = Eights::new(weight, name, &info, config)?;
                packed.parts.insert(name.to_owned());
                // Activations stay floats here, so that nothing scales them.
                let stem = weight.strip_suffix("weight").unwrap_or(weight);
                packed.parts.insert(format!("{stem}activation_scale"));
                packed.eights.insert(weight.to_owned(), eights);
            }
        }
        Ok(packed)
    }

    /// What a matrix of floats of 8 bits is multiplied by.
    pub fn eights(&self, name: &str) -> Option<&Eights> {
        self.eights.get(name)
    }

    /// The names of what tensors make up.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fours.keys().map(String::as_str)
    }

    /// Whether a tensor is only a part of another.
    pub fn is_part(&self, name: &str) -> bool {
        self.parts.contains(name)
    }

    /// The parts of a tensor of floats of 4 bits.
    pub fn fours(&self, name: &str) -> Option<&Fours> {
        self.fours.get(name)
    }
}

impl Fours {
    fn new<'a>(
        stem: &str,
        blocks: &str,
        info: impl Fn(&str) -> Option<&'a TensorInfo>,
    ) -> Result<Self, String> {
        let scales = format!("{stem}_scales");
        let (Some(codes), Some(exponents)) = (info(blocks), info(&scales)) else {
            return Err(format!("tensor {blocks} has no {scales}"));
        };
        if [codes.dtype, exponents.dtype] != [Dtype::U8, Dtype::U8] {
            return Err(format!("tensor {blocks} and its scales are not both U8"));
        }
        match (&codes.shape[..], &exponents.shape[..]) {
            (&[matrices, rows, count, BYTES], scale) if *scale == [matrices, rows, count] => {
                Ok(Self {
                    blocks: blocks.to_owned(),
                    scales,
                    shape: [matrices, rows, count * BLOCK],
                })
            }
            (codes, scales) => Err(format!(
                "tensor {blocks} is {codes:?} and its scales are {scales:?}, not [n, rows, blocks, {BYTES}] \
                 and [n, rows, blocks]"
            )),
        }
    }
}

impl Eights {
    fn new<'a>(
        weight: &str,
        scales: &str,
        info: impl Fn(&str) -> Option<&'a TensorInfo>,
        config: &Value,
    ) -> Result<Self, String> {
        let (Some(codes), Some(factors)) = (info(weight), info(scales)) else {
            return Err(format!("tensor {scales} has no {weight}"));
        };
        let (Dtype::F8_E4M3, &[rows, columns]) = (codes.dtype, &codes.shape[..]) else {
            return Err(format!(
                "tensor {weight}, which {scales} is for, is {:?} in {:?}, not a matrix in F8_E4M3",
                codes.shape, codes.dtype
            ));
        };
        let own = [config, &config[super::nested::TEXT]];
        let mut own = own.map(|json| &json["quantization_config"]).into_iter();
        let own = own.find(|own| own.is_object()).unwrap_or(&Value::Null);
        let size = &own["weight_block_size"];
        let size = |n: usize| size[n].as_u64().filter(|&it| it > 0).map(|it| it as usize);
        let block = match factors.shape[..] {
            [] | [1] => [rows.max(1), columns.max(1)],
            _ => [size(0).unwrap_or(128), size(1).unwrap_or(128)],
        };
        let grid = [rows.div_ceil(block[0]), columns.div_ceil(block[1])];
        if factors.shape.len() > 1 && factors.shape != grid {
            return Err(format!(
                "tensor {scales} is {:?}, but {weight} has {grid:?} blocks of {block:?}",
                factors.shape
            ));
        }
        Ok(Self {
            scales: scales.to_owned(),
            block,
        })
    }

    /// The numbers of a matrix, from its bytes and what they are multiplied by.
    pub fn widen(&self, codes: RawTensor, scales: &[f32]) -> RawTensor {
        let RawTensor {
            name,
            rows,
            columns,
            data: codes,
            ..
        } = codes;
        let across = columns.div_ceil(self.block[1]);
        let mut data = Vec::with_capacity(2 * codes.len());
        for (row, codes) in codes.chunks_exact(columns.max(1)).enumerate() {
            let scales = &scales[row / self.block[0] * across..][..across];
            for (codes, scale) in codes.chunks(self.block[1]).zip(scales) {
                let numbers = codes
                    .iter()
                    .map(|code| bf16::from_f32(eight(*code) * scale));
                data.extend(numbers.flat_map(bf16::to_le_bytes));
            }
        }
        RawTensor {
            name,
            format: TensorFormat::BF16,
            rows,
            columns,
            data,
        }
    }
}

/// A float of 8 bits with an exponent of 4 and without infinities (arXiv 2209.05433, table 1).
fn eight(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction / 512.0,
        _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    };
    if code < 128 { size } else { -size }
}

/// Blocks as ggml has them. There the codes of the first half of a block are the lower ones of its bytes;
/// here neighbours share a byte.
pub(super) fn blocks(codes: &[u8], scales: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(codes.len() + scales.len());
    for (codes, scale) in codes.as_chunks::<BYTES>().0.iter().zip(scales) {
        let code = |n: usize| codes[n / 2] >> (n % 2 * 4) & 15;
        blocks.push(*scale);
        blocks.extend((0..BYTES).map(|n| code(n) | code(n + BYTES) << 4));
    }
    blocks
}
