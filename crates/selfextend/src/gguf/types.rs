//! The numbers by which GGUF names tensor formats.

use crate::tensor::TensorFormat;

/// Number, name, and what reads it here: `enum ggml_type` of llama.cpp's `ggml.h`. Numbers that are
/// missing belonged to formats that ggml removed.
const TYPES: &[(u32, &str, Option<TensorFormat>)] = &[
    (0, "F32", Some(TensorFormat::F32)),
    (1, "F16", Some(TensorFormat::F16)),
    (2, "Q4_0", Some(TensorFormat::Q4_0)),
    (3, "Q4_1", Some(TensorFormat::Q4_1)),
    (6, "Q5_0", Some(TensorFormat::Q5_0)),
    (7, "Q5_1", Some(TensorFormat::Q5_1)),
    (8, "Q8_0", Some(TensorFormat::Q8_0)),
    (9, "Q8_1", None),
    (10, "Q2_K", Some(TensorFormat::Q2K)),
    (11, "Q3_K", Some(TensorFormat::Q3K)),
    (12, "Q4_K", Some(TensorFormat::Q4K)),
    (13, "Q5_K", Some(TensorFormat::Q5K)),
    (14, "Q6_K", Some(TensorFormat::Q6K)),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", Some(TensorFormat::IQ2XXS)),
    (17, "IQ2_XS", Some(TensorFormat::IQ2XS)),
    (18, "IQ3_XXS", Some(TensorFormat::IQ3XXS)),
    (19, "IQ1_S", Some(TensorFormat::IQ1S)),
    (20, "IQ4_NL", Some(TensorFormat::IQ4NL)),
    (21, "IQ3_S", Some(TensorFormat::IQ3S)),
    (22, "IQ2_S", Some(TensorFormat::IQ2S)),
    (23, "IQ4_XS", Some(TensorFormat::IQ4XS)),
    (24, "I8", None),
    (25, "I16", None),
    (26, "I32", None),
    (27, "I64", None),
    (28, "F64", None),
    (29, "IQ1_M", Some(TensorFormat::IQ1M)),
    (30, "BF16", Some(TensorFormat::BF16)),
    (34, "TQ1_0", Some(TensorFormat::TQ1_0)),
    (35, "TQ2_0", Some(TensorFormat::TQ2_0)),
    (39, "MXFP4", Some(TensorFormat::MXFP4)),
    (40, "NVFP4", Some(TensorFormat::NVFP4)),
    (41, "Q1_0", None),
];

/// The format of a number.
///
/// # Errors
/// The number, with its name where it has one.
pub(super) fn find(number: u32) -> Result<TensorFormat, String> {
    match TYPES.iter().find(|(known, ..)| *known == number) {
        Some((_, _, Some(format))) => Ok(*format),
        Some((_, name, None)) => Err(format!("type {number} ({name})")),
        None => Err(format!("type {number}, which is unknown")),
    }
}

/// The names of the formats that are read.
pub(super) fn read() -> String {
    let read = TYPES.iter().filter(|(.., format)| format.is_some());
    read.map(|(_, name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}
