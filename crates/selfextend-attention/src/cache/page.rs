//! One page of one layer, whatever its storage type.

use super::bytes::Bytes;
use super::floats::Floats;
use super::kv_type::KvType;
use super::nibbles::Nibbles;
use super::quantized::Quantized;
use super::stored::Stored;
use crate::shape::AttentionShape;
use half::f16;

/// One page of one layer.
#[derive(Debug, Clone)]
pub enum Page {
    /// Full precision.
    F32(Floats<f32>),
    /// Half precision.
    F16(Floats<f16>),
    /// Bytes with scales.
    Q8(Quantized<Bytes>),
    /// Four bits with scales.
    Q4(Quantized<Nibbles>),
}

/// Runs a block with `$stored` bound to what a page holds, whatever its type.
macro_rules! with_stored {
    ($page:expr, |$stored:ident| $body:expr) => {
        match $page {
            Page::F32($stored) => $body,
            Page::F16($stored) => $body,
            Page::Q8($stored) => $body,
            Page::Q4($stored) => $body,
        }
    };
}
pub(crate) use with_stored;

impl Page {
    pub(super) fn new(kv_type: KvType, shape: AttentionShape) -> Self {
        match kv_type {
            KvType::F32 => Self::F32(Stored::new(shape)),
            KvType::F16 => Self::F16(Stored::new(shape)),
            KvType::Q8_0 => Self::Q8(Stored::new(shape)),
            KvType::Q4 => Self::Q4(Stored::new(shape)),
        }
    }

    /// Prepares an empty page for the tokens after the full page `before`: see [`Quantized::follow`].
    pub(super) fn follow(
        &mut self,
        shape: AttentionShape,
        before: &Self,
        advance: impl Fn(&mut [f32]),
    ) {
        if let (Self::Q4(page), Self::Q4(before)) = (self, before) {
            page.follow(shape, before, advance);
        }
    }
}
