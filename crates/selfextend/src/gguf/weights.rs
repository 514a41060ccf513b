//! From a GGUF file's tensors to a decoder's weights.

use super::{GgufFile, RawTensor};
use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::decoder::{LayerWeights, Weights};
use crate::error::Result;
use candle_core::quantized::GgmlDType;
use rayon::prelude::*;
use std::borrow::Cow;

impl GgufFile {
    /// Reads all weights, several tensors at a time on the current rayon pool.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for tensors that are missing or of the wrong shape.
    pub fn weights<B: Backend>(&self, config: &ModelConfig, backend: &B) -> Result<Weights<B>> {
        let load = Loader {
            gguf: self,
            backend,
        };
        let (hidden, ff) = (config.hidden, config.feed_forward);
        let (q, kv) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let layer = |n: usize| -> Result<LayerWeights<B>> {
            let name = |part: &str| format!("blk.{n}.{part}");
            let matrix =
                |part, rows, columns| load.matrix(&name(&format!("{part}.weight")), rows, columns);
            let bias = |part, len| load.optional_vector(&name(&format!("{part}.bias")), len);
            Ok(LayerWeights {
                attention_norm: load.vector(&name("attn_norm.weight"), hidden)?,
                query: matrix("attn_q", q, hidden)?,
                key: matrix("attn_k", kv, hidden)?,
                value: matrix("attn_v", kv, hidden)?,
                query_bias: bias("attn_q", q)?,
                key_bias: bias("attn_k", kv)?,
                value_bias: bias("attn_v", kv)?,
                attention_output: matrix("attn_output", hidden, q)?,
                feed_forward_norm: load.vector(&name("ffn_norm.weight"), hidden)?,
                gate: matrix("ffn_gate", ff, hidden)?,
                up: matrix("ffn_up", ff, hidden)?,
                down: matrix("ffn_down", hidden, ff)?,
            })
        };
        // Before anything large is read: a header that lies about its layers fails at once.
        if !self.has_tensor(&format!("blk.{}.attn_norm.weight", config.layers - 1)) {
            return Err(self.bad(format!(
                "the header announces {} layers, but the last one is missing",
                config.layers
            )));
        }
        let layers = (0..config.layers)
            .into_par_iter()
            .map(layer)
            .collect::<Result<Vec<_>>>()?;
        let output = "output.weight";
        Ok(Weights {
            embedding: load.matrix("token_embd.weight", config.vocab, hidden)?,
            // Without one, the embedding also serves as output head.
            output: self
                .has_tensor(output)
                .then(|| load.matrix(output, config.vocab, hidden))
                .transpose()?,
            output_norm: load.vector("output_norm.weight", hidden)?,
            layers,
        })
    }

    /// A tensor's numbers as floats.
    pub(crate) fn floats(&self, tensor: &RawTensor) -> Result<Vec<f32>> {
        dequantize(tensor.dtype, &tensor.data, tensor.rows * tensor.columns)
            .map_err(|reason| self.bad(format!("tensor {}: {reason}", tensor.name)))
    }
}

/// A block format's numbers as floats, by candle's conversions.
pub(crate) fn dequantize(dtype: GgmlDType, data: &[u8], count: usize) -> Result<Vec<f32>, String> {
    // candle wants the bytes aligned like its blocks; a fresh allocation always is.
    let aligned = Cow::Owned(data.to_vec());
    match dtype.from_data(aligned).dequantize(count) {
        Ok(candle_core::CpuStorage::F32(floats)) => Ok(floats),
        Ok(_) => Err("did not convert to floats".into()),
        Err(error) => Err(error.to_string()),
    }
}

struct Loader<'a, B> {
    gguf: &'a GgufFile,
    backend: &'a B,
}

impl<B: Backend> Loader<'_, B> {
    fn tensor(&self, name: &str, rows: usize, columns: usize) -> Result<RawTensor> {
        let gguf = self.gguf;
        let tensor = gguf
            .tensor(name)?
            .ok_or_else(|| gguf.bad(format!("tensor {name} is missing")))?;
        if (tensor.rows, tensor.columns) != (rows, columns) {
            return Err(gguf.bad(format!(
                "tensor {name} is [{}, {}], but the header's sizes ask for [{rows}, {columns}]",
                tensor.rows, tensor.columns
            )));
        }
        Ok(tensor)
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<B::Matrix> {
        let tensor = self.tensor(name, rows, columns)?;
        self.backend
            .matrix(tensor)
            .map_err(|reason| self.gguf.bad(format!("tensor {name}: {reason}")))
    }

    fn vector(&self, name: &str, len: usize) -> Result<B::Vector> {
        let tensor = self.tensor(name, 1, len)?;
        Ok(self.backend.vector(self.gguf.floats(&tensor)?))
    }

    fn optional_vector(&self, name: &str, len: usize) -> Result<Option<B::Vector>> {
        self.gguf
            .has_tensor(name)
            .then(|| self.vector(name, len))
            .transpose()
    }
}
