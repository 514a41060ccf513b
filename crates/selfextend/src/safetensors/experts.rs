//! From config.json to [`Experts`].

use super::reader::Reader;
use crate::config::{Experts, Routing, Score};
use crate::error::Result;
use serde_json::Value;

impl Reader<'_> {
    /// An option of one of these names, whichever the model type has.
    fn one_of<'a>(&self, keys: &[&'a str]) -> Option<&'a str> {
        keys.iter().copied().find(|key| self.absent(key).is_some())
    }

    /// The sparse layers, where there are any experts; `width` is that of other layers.
    pub(super) fn experts(&self, layers: usize, width: Option<usize>) -> Result<Option<Experts>> {
        let Some(usual) = self.kind.family.routing else {
            return Ok(None);
        };
        let count = ["num_local_experts", "num_experts", "n_routed_experts"];
        let count = match self.one_of(&count) {
            Some(key) => self.size(key)?.unwrap_or(0),
            None => 0,
        };
        if count == 0 {
            return Ok(None);
        }
        let width = match (self.one_of(&["moe_intermediate_size"]), width) {
            (Some(key), _) => self.need(key)?,
            (None, Some(width)) => width,
            (None, None) => self.need("intermediate_size")?,
        };
        Ok(Some(Experts {
            count,
            used: self.need("num_experts_per_tok")?,
            width,
            shared_width: self.shared_width(width)?,
            limit: self.expert_limit()?,
            routing: self.routing(usual)?,
            sparse: self.sparse_layers(layers)?,
        }))
    }

    /// What gates are cut to.
    fn expert_limit(&self) -> Result<Option<f32>> {
        let usual = self.kind.family.expert_limit;
        Ok(match self.one_of(&["swiglu_limit"]) {
            Some(key) => self.number(key)?.map(|limit| limit as f32).or(usual),
            None => usual,
        })
    }

    fn shared_width(&self, width: usize) -> Result<usize> {
        let own = [
            "shared_expert_intermediate_size",
            "shared_intermediate_size",
        ];
        if let Some(key) = self.one_of(&own) {
            return Ok(self.size(key)?.unwrap_or(0));
        }
        // Several are as one of their width together.
        match self.one_of(&["n_shared_experts"]) {
            Some(key) => Ok(self.size(key)?.unwrap_or(0) * width),
            None => Ok(0),
        }
    }

    fn routing(&self, usual: Routing) -> Result<Routing> {
        let size = |key: &str, usual: usize| -> Result<usize> {
            match self.one_of(&[key]) {
                Some(_) => Ok(self.size(key)?.unwrap_or(usual)),
                None => Ok(usual),
            }
        };
        let groups = size("n_group", usual.groups)?;
        Ok(Routing {
            normalised: match self.one_of(&["norm_topk_prob"]) {
                Some(key) => self.flag(key)?,
                None => usual.normalised,
            },
            score: match (usual.score, self.one_of(&["router_jitter_noise"])) {
                (Score::Nearest(usual), Some(key)) => {
                    Score::Nearest(self.number(key)?.map_or(usual, |jitter| jitter as f32))
                }
                (usual, _) => usual,
            },
            scale: match self.one_of(&["routed_scaling_factor"]) {
                Some(key) => self.number(key)?.map_or(usual.scale, |scale| scale as f32),
                None => usual.scale,
            },
            groups,
            groups_used: size("topk_group", groups)?,
        })
    }

    fn sparse_layers(&self, layers: usize) -> Result<Vec<bool>> {
        let first = match self.one_of(&["first_k_dense_replace"]) {
            Some(key) => self.size(key)?.unwrap_or(0),
            None => 0,
        };
        let step = match self.one_of(&["decoder_sparse_step"]) {
            Some(key) => self.need(key)?,
            None => 1,
        };
        const DENSE: &str = "mlp_only_layers";
        let dense = match self.get(DENSE) {
            Value::Null => Vec::new(),
            Value::Array(list) => list,
            value => return Err(self.wrong(DENSE, "a list of layers", &value)),
        };
        for layer in &dense {
            if layer.as_u64().is_none_or(|n| n >= layers as u64) {
                return Err(self.wrong(DENSE, "a list of layers", layer));
            }
        }
        let sparse = |n: usize| {
            let listed = dense.iter().any(|layer| layer.as_u64() == Some(n as u64));
            n >= first && (n + 1).is_multiple_of(step) && !listed
        };
        Ok((0..layers).map(sparse).collect())
    }
}
