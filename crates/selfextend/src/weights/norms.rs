//! Norms that are not one tensor each: those without weights, and those of each head by itself.

use super::{Checkpoint, Loader};
use crate::backend::Backend;
use crate::decoder::Norm;
use crate::error::Result;

impl<C: Checkpoint, B: Backend> Loader<'_, C, B> {
    /// A norm without weights.
    pub(super) fn plain_norm(&self) -> Norm<B> {
        Norm {
            weight: self.backend.vector(vec![1.0; self.config.hidden]),
            bias: None,
            heads: None,
        }
    }

    /// Names of norms of each head; one where they share a tensor.
    pub(super) fn heads(&self, name: &str, heads: usize) -> Vec<String> {
        match name.contains("{}") {
            true => (0..heads)
                .map(|head| name.replace("{}", &head.to_string()))
                .collect(),
            false => vec![name.to_owned()],
        }
    }

    /// A norm of each head with its own weights.
    pub(super) fn own_head_norm(&self, name: &str, heads: usize) -> Result<Norm<B>> {
        let mut weights = Vec::new();
        for name in self.heads(name, heads) {
            weights.extend(self.read(&name)?.to_floats());
        }
        Ok(Norm {
            weight: self.backend.vector(vec![1.0; self.config.head_dim]),
            bias: None,
            heads: Some(self.backend.vector(weights)),
        })
    }
}
