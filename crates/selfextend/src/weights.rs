//! From a checkpoint's tensors to a decoder's weights, whatever the file format.
//!
//! A file format gives the name of each part of a model ([`Names`]). This module knows the shape that
//! each part must have, splits fused projections, and checks every tensor before it reads the first.

mod curves;
mod experts;
mod norms;
mod reading;

use crate::backend::Backend;
use crate::config::{ModelConfig, QkNorm};
use crate::decoder::{Dense, FeedForward, LayerWeights, Linear, Norm, Weights};
use crate::error::{Error, Result};
use crate::tensor::RawTensor;
use rayon::prelude::*;
pub(crate) use reading::{
    ALL_BIASED, Curves, Fused, Names, PLAIN_BIASED, Part, Reading, Stacks, Tied,
};
use std::collections::HashSet;
use std::ops::Range;

/// Tensors by name.
pub(crate) trait Checkpoint: Sync {
    /// All names, in no particular order.
    fn tensor_names(&self) -> Vec<&str>;
    /// Rows and columns of a tensor; a vector is one row. `None` when there is none.
    fn shape(&self, name: &str) -> Result<Option<(usize, usize)>>;
    /// The matrices that a tensor of three dimensions holds one below the other, and the rows and
    /// columns of each. `None` when there is none.
    fn stack(&self, name: &str) -> Result<Option<[usize; 3]>>;
    /// Reads one of these matrices.
    fn stacked(&self, name: &str, number: usize) -> Result<Option<RawTensor>>;
    /// Reads a tensor.
    fn tensor(&self, name: &str) -> Result<Option<RawTensor>>;
    /// An error about the file.
    fn bad(&self, reason: String) -> Error;
    /// An error about something this version does not run.
    fn unsupported(&self, what: String, supported: String) -> Error;
}

/// Reads all weights, several tensors at a time on the current rayon pool.
///
/// # Errors
/// [`Error::Model`] for tensors that are missing or of the wrong shape, [`Error::Unsupported`] for
/// tensors that the architecture does not use: without them, the output would not be the model's.
pub(crate) fn load<B: Backend>(
    file: &impl Checkpoint,
    reading: Reading,
    config: &ModelConfig,
    backend: &B,
) -> Result<Weights<B>> {
    let mut loader = Loader {
        file,
        reading,
        config,
        backend,
        tied: false,
    };
    loader.check()?;
    loader.tied = loader.is_tied()?;
    let names = &loader.reading.names;
    // The largest first: beside a tensor's bytes in the file's order, little else is held then.
    let embedding = loader.matrix(names.embedding, loader.read(names.embedding)?)?;
    let output = (!loader.tied).then(|| -> Result<_> {
        let tensor = loader.read(names.output)?;
        loader.matrix(names.output, tensor)
    });
    let output = output.transpose()?;
    let layers = (0..config.layers)
        .into_par_iter()
        .map(|n| loader.layer(n))
        .collect::<Result<Vec<_>>>()?;
    Ok(Weights {
        embedding,
        output,
        output_bias: loader.bias(names.output)?,
        output_norm: if loader.reading.plain_norms {
            loader.plain_norm(config.hidden)
        } else {
            loader.norm(names.output_norm)?
        },
        layers,
    })
}

struct Loader<'a, C, B> {
    file: &'a C,
    reading: Reading,
    config: &'a ModelConfig,
    backend: &'a B,
    tied: bool,
}

impl<C: Checkpoint, B: Backend> Loader<'_, C, B> {
    /// Rows and columns of a part. Norms are one row.
    fn shape(&self, part: Part) -> (usize, usize) {
        let ModelConfig {
            hidden,
            feed_forward,
            head_dim,
            ..
        } = *self.config;
        let (q, kv) = (
            self.config.heads * head_dim,
            self.config.kv_heads * head_dim,
        );
        let qk_norm = |row| match self.config.qk_norm {
            QkNorm::Head => (1, head_dim),
            QkNorm::OwnHead => (row / head_dim, head_dim),
            QkNorm::Row => (1, row),
        };
        match part {
            Part::AttentionNorm
            | Part::PostAttentionNorm
            | Part::FeedForwardNorm
            | Part::PostFeedForwardNorm => (1, hidden),
            Part::Query => (q, hidden),
            Part::Key | Part::Value => (kv, hidden),
            Part::QueryKeyValue => (q + 2 * kv, hidden),
            Part::QueryNorm => qk_norm(q),
            Part::KeyNorm => qk_norm(kv),
            Part::Sinks => (1, self.config.heads),
            Part::AttentionOutput => (hidden, q),
            Part::Gate | Part::Up => (feed_forward, hidden),
            Part::GateUp => (2 * feed_forward, hidden),
            Part::Down => (hidden, feed_forward),
            _ => self.sparse_shape(part),
        }
    }

    fn has(&self, part: Part, name: &str) -> Result<bool> {
        if part.is_expert() {
            return self.has_expert(name);
        }
        Ok(self.file.shape(&format!("{name}.weight"))?.is_some())
    }

    /// The parts that a block is read from: a fused part, or the parts that it stands for, whichever
    /// the file has.
    fn parts(&self, n: usize) -> Result<Vec<(Part, String)>> {
        let all = self.reading.names.parts.iter().copied().flatten();
        let start = self.reading.names.layer.replace("{}", &n.to_string());
        let all = all.filter(|(part, _)| self.has_part(n, *part));
        let all = all.map(|&(part, name)| (part, format!("{start}{name}")));
        let mut parts: Vec<(Part, String)> = Vec::new();
        for (part, name) in all {
            match parts.iter_mut().find(|(known, _)| *known == part) {
                None => parts.push((part, name)),
                Some(known) if !self.has(part, &known.1)? && self.has(part, &name)? => {
                    known.1 = name;
                }
                Some(_) => {}
            }
        }
        for (fused, replaced) in [
            (
                Part::QueryKeyValue,
                &[Part::Query, Part::Key, Part::Value][..],
            ),
            (Part::GateUp, &[Part::Gate, Part::Up]),
            (Part::ExpertGateUp, &[Part::ExpertGate, Part::ExpertUp]),
            (Part::SharedGateUp, &[Part::SharedGate, Part::SharedUp]),
        ] {
            let Some((_, name)) = parts.iter().find(|(part, _)| *part == fused) else {
                continue;
            };
            let alternative = parts.iter().any(|(part, _)| replaced.contains(part));
            if self.has(fused, name)? {
                parts.retain(|(part, _)| !replaced.contains(part));
            } else if alternative {
                parts.retain(|(part, _)| *part != fused);
            }
        }
        if self.reading.shares_norm {
            parts.retain(|(part, _)| *part != Part::FeedForwardNorm);
        }
        parts.retain(|(part, _)| !self.reading.lacking.contains(part));
        Ok(parts)
    }

    /// Checks, before anything is read, that every tensor is there in its shape, and that there is
    /// none that the model would not use.
    fn check(&self) -> Result<()> {
        let Reading {
            ref names,
            ref biased,
            ref unbiased,
            ..
        } = self.reading;
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        let heads = self.config.heads;
        if let Fused::InGroups(groups) = self.reading.fused
            && !heads.is_multiple_of(groups)
        {
            let reason =
                format!("{heads} heads are not {groups} groups, as their weights are fused");
            return Err(self.file.bad(reason));
        }
        let (mut known, mut of_experts) = (HashSet::new(), Vec::new());
        let mut check = |name: String, shape: (usize, usize), needed: bool| -> Result<()> {
            match self.file.shape(&name)? {
                None if needed => return Err(self.file.bad(format!("tensor {name} is missing"))),
                Some(found) if found != shape => {
                    return Err(self.file.bad(format!(
                        "tensor {name} is [{}, {}], but the model's sizes require [{}, {}]",
                        found.0, found.1, shape.0, shape.1
                    )));
                }
                _ => {}
            }
            known.insert(name);
            Ok(())
        };
        check(format!("{}.weight", names.embedding), (vocab, hidden), true)?;
        if !self.reading.plain_norms {
            check(format!("{}.weight", names.output_norm), (1, hidden), true)?;
            check(format!("{}.bias", names.output_norm), (1, hidden), false)?;
        }
        check(
            format!("{}.weight", names.output),
            (vocab, hidden),
            self.reading.tied == Tied::No,
        )?;
        check(format!("{}.bias", names.output), (1, vocab), false)?;
        // The last layer first: a header with a wrong number of layers fails at once.
        for n in (0..self.config.layers).rev() {
            for name in self.curve_names(n).into_iter().flatten() {
                check(name, (1, 1), true)?;
            }
            for (part, name) in self.parts(n)? {
                let (rows, columns) = self.shape(part);
                if part.is_expert() {
                    of_experts.extend(self.check_expert(part, &name)?);
                    continue;
                }
                if matches!(part, Part::ChoiceBias | Part::Sinks) {
                    check(name, (rows, columns), true)?;
                    continue;
                }
                if name.contains("{}") {
                    for head in self.heads(&name, rows) {
                        check(format!("{head}.weight"), (1, columns), true)?;
                    }
                    continue;
                }
                check(format!("{name}.weight"), (rows, columns), true)?;
                let bias = (1, if rows == 1 { columns } else { rows });
                let of_heads = matches!(part, Part::QueryNorm | Part::KeyNorm)
                    && self.config.qk_norm == QkNorm::OwnHead;
                if !unbiased.contains(&part) && !of_heads {
                    check(format!("{name}.bias"), bias, biased.contains(&part))?;
                }
            }
        }
        known.extend(of_experts);
        let mut stray = self.file.tensor_names();
        stray.retain(|name| !known.contains(*name));
        stray.retain(|name| !names.ignored.iter().any(|end| name.ends_with(end)));
        stray.retain(|name| !names.unread.iter().any(|start| name.starts_with(start)));
        for n in self.config.layers..self.config.layers + self.reading.ahead {
            let start = names.layer.replace("{}", &n.to_string());
            stray.retain(|name| !name.starts_with(&start));
        }
        if let Some(norm) = self.shared_norm() {
            stray.retain(|name| !name.contains(norm));
        }
        match stray.into_iter().min() {
            None => Ok(()),
            Some(name) => Err(self.file.unsupported(
                format!(
                    "tensor {name} in architecture {:?}",
                    self.config.architecture
                ),
                "a model run without one of its tensors would not be that model".into(),
            )),
        }
    }

    /// The name of the norm that blocks which share one do not have.
    fn shared_norm(&self) -> Option<&'static str> {
        let mut parts = self.reading.names.parts.iter().copied().flatten();
        let norm = parts.find(|(part, _)| *part == Part::FeedForwardNorm);
        norm.filter(|_| self.reading.shares_norm)
            .map(|(_, name)| *name)
    }

    fn is_tied(&self) -> Result<bool> {
        let names = &self.reading.names;
        let tied = self.reading.tied;
        let has_output = self.file.shape(&format!("{}.weight", names.output))?;
        if tied == Tied::No || has_output.is_none() {
            return Ok(tied != Tied::No);
        }
        if tied == Tied::IfAlone {
            return Ok(false);
        }
        let same = self.read(names.output)?.data == self.read(names.embedding)?.data;
        match tied {
            Tied::Yes if !same => Err(self.file.bad(format!(
                "tensor {}.weight differs from {}.weight, which should be tied to it; remove it, or \
                 set tie_word_embeddings to false",
                names.output, names.embedding
            ))),
            _ => Ok(same),
        }
    }

    fn layer(&self, n: usize) -> Result<LayerWeights<B>> {
        let parts = self.parts(n)?;
        let plain = |norm: Option<Norm<B>>| match norm {
            None if self.reading.plain_norms => Some(self.plain_norm(self.config.hidden)),
            norm => norm,
        };
        let name = |part| parts.iter().find(|(known, _)| *known == part);
        let norm = |part| name(part).map(|(_, name)| self.norm(name)).transpose();
        let head_norm = |part| match (name(part), self.config.qk_norm) {
            (Some((_, name)), QkNorm::OwnHead) => {
                self.own_head_norm(name, self.shape(part).0).map(Some)
            }
            _ => norm(part),
        };
        let linear = |part| match name(part) {
            Some((_, name)) => self.linear(name),
            None => Err(self.file.bad(format!("layer {n} has no {part:?}"))),
        };
        let [query, key, value] = match name(Part::QueryKeyValue) {
            Some((_, name)) => self.split(name, self.query_key_value_rows())?,
            None => [
                linear(Part::Query)?,
                linear(Part::Key)?,
                linear(Part::Value)?,
            ],
        };
        let sparse = self.config.experts.as_ref();
        let feed_forward = match sparse.filter(|experts| experts.is_sparse(n)) {
            Some(experts) => FeedForward::Sparse(Box::new(self.sparse(experts, &parts)?)),
            None => {
                let dense = [Part::GateUp, Part::Gate, Part::Up, Part::Down];
                FeedForward::Dense(Dense {
                    curve: self.curve(n)?,
                    ..self.dense(&parts, dense, self.config.feed_forward)?
                })
            }
        };
        let turned = self.turned(&parts)?;
        let head_norm = |part| match turned {
            None => head_norm(part),
            // Its weights are for what is rotated.
            Some(_) => Ok(Some(self.plain_norm(self.config.head_dim))),
        };
        Ok(LayerWeights {
            attention_norm: plain(norm(Part::AttentionNorm)?),
            query,
            key,
            value,
            query_norm: head_norm(Part::QueryNorm)?,
            key_norm: head_norm(Part::KeyNorm)?,
            turned,
            sinks: match name(Part::Sinks) {
                Some((_, name)) => Some(self.backend.vector(self.whole(name)?)),
                None => None,
            },
            attention_output: linear(Part::AttentionOutput)?,
            post_attention_norm: norm(Part::PostAttentionNorm)?,
            feed_forward_norm: plain(norm(Part::FeedForwardNorm)?),
            feed_forward,
            post_feed_forward_norm: norm(Part::PostFeedForwardNorm)?,
        })
    }

    /// A feed-forward layer of a width, from its parts: fused, gate, what it gates, back.
    fn dense(
        &self,
        parts: &[(Part, String)],
        [fused, gate, up, down]: [Part; 4],
        width: usize,
    ) -> Result<Dense<B>> {
        let name = |part| parts.iter().find(|(known, _)| *known == part);
        let linear = |part| match name(part) {
            Some((_, name)) => self.linear(name),
            None => Err(self.file.bad(format!("a layer has no {part:?}"))),
        };
        let (gate, up) = match name(fused) {
            Some((_, name)) => {
                let rows = [(0..width), (width..2 * width)];
                let [gate, up] = self.split(name, rows.map(|rows| vec![rows]))?;
                (Some(gate), up)
            }
            None => {
                let gate = name(gate).map(|(_, name)| self.linear(name));
                (gate.transpose()?, linear(up)?)
            }
        };
        let down = linear(down)?;
        Ok(Dense {
            gate,
            up,
            curve: None,
            down,
        })
    }

    /// Which rows of the fused projection are queries, keys and values.
    fn query_key_value_rows(&self) -> [Vec<Range<usize>>; 3] {
        let dim = self.config.head_dim;
        let (q, kv) = (self.config.heads * dim, self.config.kv_heads * dim);
        // Blocks of so many rows, three to a group.
        let of = |size: usize, groups| {
            move |part| {
                let block = move |group| (group * 3 + part) * size..(group * 3 + part + 1) * size;
                (0..groups).map(block).collect()
            }
        };
        match self.reading.fused {
            Fused::InTurn => [0..q, q..q + kv, q + kv..q + 2 * kv].map(|rows| vec![rows]),
            Fused::ByHead => [0, 1, 2].map(of(dim, self.config.heads)),
            Fused::InGroups(groups) => [0, 2, 1].map(of(q / groups, groups)),
        }
    }

    fn read(&self, name: &str) -> Result<RawTensor> {
        let name = format!("{name}.weight");
        self.file
            .tensor(&name)?
            .ok_or_else(|| self.file.bad(format!("tensor {name} is missing")))
    }

    /// The numbers of a tensor whose name is whole.
    fn whole(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.file.tensor(name)?;
        let missing = || self.file.bad(format!("tensor {name} is missing"));
        Ok(tensor.ok_or_else(missing)?.to_floats())
    }

    fn matrix(&self, name: &str, tensor: RawTensor) -> Result<B::Matrix> {
        let failed = |reason| self.file.bad(format!("tensor {name}.weight: {reason}"));
        self.backend.matrix(tensor).map_err(failed)
    }

    fn bias_floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let tensor = self.file.tensor(&format!("{name}.bias"))?;
        Ok(tensor.map(|tensor| tensor.to_floats()))
    }

    fn bias(&self, name: &str) -> Result<Option<B::Vector>> {
        Ok(self
            .bias_floats(name)?
            .map(|bias| self.backend.vector(bias)))
    }

    fn norm(&self, name: &str) -> Result<Norm<B>> {
        let mut weight = self.read(name)?.to_floats();
        weight
            .iter_mut()
            .for_each(|x| *x += self.reading.norm_offset);
        Ok(Norm {
            weight: self.backend.vector(weight),
            bias: self.bias(name)?,
            heads: None,
        })
    }

    fn linear(&self, name: &str) -> Result<Linear<B>> {
        Ok(Linear {
            weight: self.matrix(name, self.read(name)?)?,
            bias: self.bias(name)?,
        })
    }

    /// Splits a fused projection by rows.
    fn split<const N: usize>(
        &self,
        name: &str,
        rows: [Vec<Range<usize>>; N],
    ) -> Result<[Linear<B>; N]> {
        let (whole, bias) = (self.read(name)?, self.bias_floats(name)?);
        let take = |rows: &Vec<Range<usize>>| -> Result<Linear<B>> {
            let bias = bias.as_ref().map(|bias| {
                let some = rows.iter().flat_map(|rows| &bias[rows.clone()]);
                self.backend.vector(some.copied().collect())
            });
            let weight = self.matrix(name, whole.take_rows(rows))?;
            Ok(Linear { weight, bias })
        };
        let parts = rows.iter().map(take).collect::<Result<Vec<_>>>()?;
        let wrong = |_| self.file.bad(format!("tensor {name} cannot be split"));
        parts.try_into().map_err(wrong)
    }
}
