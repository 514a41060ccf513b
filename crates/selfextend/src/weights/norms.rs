//! Norms that are not one tensor each: those without weights, and those of each head by itself.

use super::{Checkpoint, Loader, Part};
use crate::backend::Backend;
use crate::decoder::Norm;
use crate::error::Result;

impl<C: Checkpoint, B: Backend> Loader<'_, C, B> {
    /// A norm without weights.
    pub(super) fn plain_norm(&self, width: usize) -> Norm<B> {
        Norm {
            weight: self.backend.vector(vec![1.0; width]),
            bias: None,
            heads: None,
        }
    }

    /// The weights of norms after the rotation, those of queries times those of keys: keys are stored
    /// without them.
    pub(super) fn turned(&self, parts: &[(Part, String)]) -> Result<Option<B::Vector>> {
        if !self.config.norms_turned {
            return Ok(None);
        }
        let mut product = vec![1.0; self.config.head_dim];
        for part in [Part::QueryNorm, Part::KeyNorm] {
            let name = parts.iter().find(|(known, _)| *known == part);
            let missing = || self.file.bad(format!("a layer has no {part:?}"));
            let (_, name) = name.ok_or_else(missing)?;
            let weights = self.read(name)?.to_floats();
            product.iter_mut().zip(weights).for_each(|(p, w)| *p *= w);
        }
        Ok(Some(self.backend.vector(product)))
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
