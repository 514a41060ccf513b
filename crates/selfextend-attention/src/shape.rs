//! Heads and head size of an attention layer.

use crate::error::AttentionError;

/// Heads and head size of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    soft_cap: Option<f32>,
}

impl AttentionShape {
    /// `heads` query heads share `kv_heads` key/value heads of `head_dim` components; scores are
    /// scaled by `1/sqrt(head_dim)`.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] when one is zero or `kv_heads` does not divide `heads`.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Result<Self, AttentionError> {
        if heads == 0 || kv_heads == 0 || head_dim == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(AttentionError::Shape(format!(
                "{heads} query heads of size {head_dim} cannot share {kv_heads} key/value heads"
            )));
        }
        Ok(Self {
            heads,
            kv_heads,
            head_dim,
            scale: (head_dim as f32).sqrt().recip(),
            soft_cap: None,
        })
    }

    /// The same with another scale of the scores.
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// The same with scaled scores `s` bent to `cap * tanh(s / cap)` (Gemma 2, arXiv 2408.00118,
    /// section 2).
    pub fn with_soft_cap(self, cap: f32) -> Self {
        let soft_cap = Some(cap);
        Self { soft_cap, ..self }
    }

    /// Query heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Components of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// What scores are multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// What scores are bent to stay below.
    pub fn soft_cap(&self) -> Option<f32> {
        self.soft_cap
    }

    /// Query heads that share a key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Components of a stored value row: the head size rounded up to a whole vector.
    pub(crate) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(crate::simd::WIDTH)
    }
}
