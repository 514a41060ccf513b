//! From a GGUF header to [`Experts`].

use super::config::Reader;
use crate::config::{Experts, Routing, Score};
use crate::error::Result;
use crate::weights::Checkpoint;

impl Reader<'_> {
    /// The sparse layers, where the header has any experts; `width` is that of other layers.
    pub(super) fn experts(&self, layers: usize, width: Option<usize>) -> Result<Option<Experts>> {
        let count = self.size("expert_count")?.unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        let Some(usual) = self.architecture.family.routing else {
            let what = format!("{} = {count}", self.key("expert_count"));
            return Err(self.gguf.unsupported(what, "models without it are".into()));
        };
        let width = match self.size("expert_feed_forward_length")? {
            Some(width) => width,
            None => width.ok_or_else(|| self.missing("expert_feed_forward_length"))?,
        };
        Ok(Some(Experts {
            count,
            used: self.need("expert_used_count")?,
            width,
            shared_width: self.shared_width(width)?,
            limit: self.architecture.family.expert_limit,
            routing: self.routing(usual)?,
            sparse: self.sparse_layers(layers)?,
        }))
    }

    fn shared_width(&self, width: usize) -> Result<usize> {
        if !self.architecture.shares_expert() {
            return Ok(0);
        }
        match self.size("expert_shared_feed_forward_length")? {
            Some(width) => Ok(width),
            // Several are as one of their width together.
            None => Ok(self.size("expert_shared_count")?.unwrap_or(0) * width),
        }
    }

    fn routing(&self, usual: Routing) -> Result<Routing> {
        let score = match self.size("expert_gating_func")? {
            None | Some(0) => usual.score,
            Some(1) => Score::Softmax,
            Some(2) => Score::Sigmoid,
            Some(3) => Score::ChosenSoftmax,
            Some(other) => {
                let what = format!("{} = {other}", self.key("expert_gating_func"));
                let known = "supported: 1 (softmax), 2 (sigmoid), 3 (softmax of the chosen)";
                return Err(self.gguf.unsupported(what, known.into()));
            }
        };
        // As llama.cpp reads it, 0 stands for none.
        let scale = self.number("expert_weights_scale")?;
        let scale = scale
            .filter(|&scale| scale != 0.0)
            .map(|scale| scale as f32);
        let norm = self.key("expert_weights_norm");
        let groups = self.size("expert_group_count")?.unwrap_or(0).max(1);
        Ok(Routing {
            score,
            normalised: self.gguf.boolean(&norm)?.unwrap_or(usual.normalised),
            scale: scale.unwrap_or(usual.scale),
            groups,
            groups_used: match self.size("expert_group_used_count")? {
                None | Some(0) => groups,
                Some(used) => used,
            },
        })
    }

    /// Headers say which first layers are dense. That others are, nothing says but that they have no
    /// router.
    fn sparse_layers(&self, layers: usize) -> Result<Vec<bool>> {
        let dense = self.size("leading_dense_block_count")?.unwrap_or(0);
        let has_router = |n: usize| {
            let router = self.gguf.shape(&format!("blk.{n}.ffn_gate_inp.weight"))?;
            Ok(n >= dense && router.is_some())
        };
        (0..layers).map(has_router).collect()
    }
}
