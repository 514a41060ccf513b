//! The weights of sparse layers.

use super::{Checkpoint, Loader, Part};
use crate::backend::{Backend, Expert};
use crate::config::Experts;
use crate::decoder::{Linear, Sparse};
use crate::error::Result;
use crate::tensor::RawTensor;
use std::ops::Range;

const SHARED: &[Part] = &[
    Part::SharedGate,
    Part::SharedUp,
    Part::SharedGateUp,
    Part::SharedDown,
    Part::SharedSwitch,
];
const ROUTER: &[Part] = &[Part::Router, Part::ChoiceBias];
const DENSE: &[Part] = &[Part::Gate, Part::Up, Part::GateUp, Part::Down];

impl<C: Checkpoint, B: Backend> Loader<'_, C, B> {
    /// Whether a layer, sparse or not, has a part that the family has.
    pub(super) fn has_part(&self, n: usize, part: Part) -> bool {
        let experts = self.config.experts.as_ref();
        match experts.filter(|experts| experts.is_sparse(n)) {
            Some(experts) if SHARED.contains(&part) => experts.shared_width > 0,
            Some(_) => !DENSE.contains(&part),
            None => !part.is_expert() && ![SHARED, ROUTER].concat().contains(&part),
        }
    }

    /// Rows and columns of a part that only sparse layers have.
    pub(super) fn sparse_shape(&self, part: Part) -> (usize, usize) {
        let hidden = self.config.hidden;
        let sizes = self.config.experts.as_ref();
        let (count, width, shared) = sizes.map_or((0, 0, 0), |experts| {
            (experts.count, experts.width, experts.shared_width)
        });
        match part {
            Part::Router => (count, hidden),
            Part::ChoiceBias => (1, count),
            Part::ExpertGate | Part::ExpertUp => (width, hidden),
            Part::ExpertGateUp => (2 * width, hidden),
            Part::ExpertDown => (hidden, width),
            Part::SharedGate | Part::SharedUp => (shared, hidden),
            Part::SharedGateUp => (2 * shared, hidden),
            Part::SharedDown => (hidden, shared),
            _ => (1, hidden),
        }
    }

    /// Whether the file has a part of experts under this name.
    pub(super) fn has_expert(&self, name: &str) -> Result<bool> {
        Ok(match of(name, 0) {
            Some(first) => self.file.shape(&format!("{first}.weight"))?.is_some(),
            None => self.file.stack(&self.stack_name(name)?)?.is_some(),
        })
    }

    /// What the file calls the tensor of all experts: the matrices of linear layers, or a parameter.
    fn stack_name(&self, name: &str) -> Result<String> {
        let weight = format!("{name}.weight");
        let is_parameter = self.file.stack(&weight)?.is_none() && self.file.stack(name)?.is_some();
        Ok(if is_parameter {
            name.to_owned()
        } else {
            weight
        })
    }

    /// What the file calls their biases.
    fn stack_bias(&self, name: &str) -> Result<String> {
        let is_parameter = self.stack_name(name)? == name;
        let own = format!("{name}_bias");
        let has_own = is_parameter || self.file.shape(&own)?.is_some();
        Ok(if has_own { own } else { format!("{name}.bias") })
    }

    /// Whether a tensor of all experts has inputs as rows.
    fn is_turned(&self, stack: &str) -> bool {
        self.reading.stacks.turned && !stack.ends_with(".weight")
    }

    /// Checks the tensors of a part of all experts, and returns their names.
    pub(super) fn check_expert(&self, part: Part, name: &str) -> Result<Vec<String>> {
        let (rows, columns) = self.shape(part);
        let count = self
            .config
            .experts
            .as_ref()
            .map_or(0, |experts| experts.count);
        let missing = |name: &str| self.file.bad(format!("tensor {name} is missing"));
        let wrong = |name: &str, found: &[usize], wanted: &[usize]| {
            self.file.bad(format!(
                "tensor {name} is {found:?}, but the model's sizes require {wanted:?}"
            ))
        };
        if of(name, 0).is_none() {
            let weight = self.stack_name(name)?;
            let wanted = match self.is_turned(&weight) {
                true => [count, columns, rows],
                false => [count, rows, columns],
            };
            match self.file.stack(&weight)? {
                Some(found) if found == wanted => {}
                Some(found) => return Err(wrong(&weight, &found, &wanted)),
                None => return Err(missing(&weight)),
            }
            if !self.reading.biased.contains(&part) {
                return Ok(vec![weight]);
            }
            let bias = self.stack_bias(name)?;
            return match self.file.shape(&bias)? {
                Some(found) if found == (count, rows) => Ok(vec![weight, bias]),
                Some((r, c)) => Err(wrong(&bias, &[r, c], &[count, rows])),
                None => Err(missing(&bias)),
            };
        }
        let names = (0..count).filter_map(|n| Some(format!("{}.weight", of(name, n)?)));
        let names: Vec<String> = names.collect();
        for name in &names {
            match self.file.shape(name)? {
                Some(found) if found == (rows, columns) => {}
                Some((r, c)) => return Err(wrong(name, &[r, c], &[rows, columns])),
                None => return Err(missing(name)),
            }
        }
        Ok(names)
    }

    /// A sparse layer, from its parts.
    pub(super) fn sparse(&self, experts: &Experts, parts: &[(Part, String)]) -> Result<Sparse<B>> {
        let name = |part| {
            let mut parts = parts.iter();
            parts
                .find(|(known, _)| *known == part)
                .map(|(_, name)| &**name)
        };
        let router = name(Part::Router);
        let router = router.ok_or_else(|| self.file.bad("no layer has a router".into()))?;
        self.check_finite(&format!("{router}.weight"), &self.read(router)?.to_floats())?;
        let choice_bias = match name(Part::ChoiceBias) {
            None => None,
            Some(name) => {
                let bias = self.whole(name)?;
                self.check_finite(name, &bias)?;
                Some(self.backend.vector(bias))
            }
        };
        let shared = [
            Part::SharedGateUp,
            Part::SharedGate,
            Part::SharedUp,
            Part::SharedDown,
        ];
        let shared = (experts.shared_width > 0)
            .then(|| self.dense(parts, shared, experts.shared_width))
            .transpose()?;
        let switch = name(Part::SharedSwitch).map(|name| self.linear(name));
        let biases = self.expert_biases(experts, &name)?;
        Ok(Sparse {
            router: self.router(router)?,
            used: experts.used,
            routing: experts.routing,
            choice_bias,
            experts: self.experts(experts, &name, biases.as_ref())?,
            limit: experts.limit,
            shared,
            shared_gate: switch.transpose()?,
        })
    }

    fn router(&self, name: &str) -> Result<Linear<B>> {
        let failed = |reason| self.file.bad(format!("tensor {name}.weight: {reason}"));
        Ok(Linear {
            weight: self.backend.router(self.read(name)?).map_err(failed)?,
            bias: self.bias(name)?,
        })
    }

    fn experts<'a>(
        &self,
        experts: &Experts,
        name: &impl Fn(Part) -> Option<&'a str>,
        biases: Option<&[Vec<Vec<f32>>; 3]>,
    ) -> Result<B::Experts> {
        let all = (0..experts.count).map(|n| {
            let biases = biases.map(|parts| {
                parts
                    .each_ref()
                    .map(|all| self.backend.vector(all[n].clone()))
            });
            Ok(Expert {
                biases,
                ..self.expert(experts.width, name, n)?
            })
        });
        let all = self.backend.experts(all.collect::<Result<_>>()?);
        all.map_err(|reason| self.file.bad(reason))
    }

    /// What is not a number would choose experts.
    fn check_finite(&self, name: &str, numbers: &[f32]) -> Result<()> {
        match numbers.iter().find(|x| !x.is_finite()) {
            None => Ok(()),
            Some(x) => Err(self.file.bad(format!(
                "tensor {name}, which experts are chosen by, has {x}; download it again"
            ))),
        }
    }

    fn expert<'a>(
        &self,
        width: usize,
        name: &impl Fn(Part) -> Option<&'a str>,
        n: usize,
    ) -> Result<Expert<B::Matrix, B::Vector>> {
        let matrix = |part: Part| {
            let name = name(part).unwrap_or_default();
            self.matrix(name, self.expert_tensor(name, n)?)
        };
        let (gate, up) = match name(Part::ExpertGateUp) {
            None => (matrix(Part::ExpertGate)?, matrix(Part::ExpertUp)?),
            Some(name) => {
                let both = self.expert_tensor(name, n)?;
                let [gate, up] = self.halves(width);
                let half = |rows| self.matrix(name, both.take_rows(rows));
                (half(&gate)?, half(&up)?)
            }
        };
        Ok(Expert {
            gate,
            up,
            down: matrix(Part::ExpertDown)?,
            biases: None,
        })
    }

    /// Rows of gates, and of what they gate, where one tensor has both.
    fn halves(&self, width: usize) -> [Vec<Range<usize>>; 2] {
        if !self.reading.stacks.alternate {
            let half = |first: usize| std::iter::once(first..first + width).collect();
            return [0, width].map(half);
        }
        let each = |first: usize| (0..width).map(move |n| 2 * n + first..2 * n + first + 1);
        [0, 1].map(|first| each(first).collect())
    }

    fn expert_tensor(&self, name: &str, n: usize) -> Result<RawTensor> {
        if let Some(name) = of(name, n) {
            return self.read(&name);
        }
        let name = self.stack_name(name)?;
        let tensor = self.file.stacked(&name, n)?;
        let missing = || self.file.bad(format!("tensor {name} is missing"));
        let tensor = tensor.ok_or_else(missing)?;
        if !self.is_turned(&name) {
            return Ok(tensor);
        }
        if tensor.format.block_len() > 1 {
            let reason = format!("tensor {name} in {} has inputs as rows", tensor.format);
            return Err(self.file.bad(reason));
        }
        Ok(tensor.turned())
    }

    /// Of all experts the biases of gates, of what they gate, and of the way back, where the family has
    /// them.
    fn expert_biases<'a>(
        &self,
        experts: &Experts,
        name: &impl Fn(Part) -> Option<&'a str>,
    ) -> Result<Option<[Vec<Vec<f32>>; 3]>> {
        if !self.reading.biased.contains(&Part::ExpertDown) {
            return Ok(None);
        }
        let read = |part: Part| -> Result<Vec<f32>> {
            let name = name(part).ok_or_else(|| self.file.bad(format!("no layer has {part:?}")))?;
            self.whole(&self.stack_bias(name)?)
        };
        let rows = |all: &[f32]| -> Vec<Vec<f32>> {
            let rows = all.chunks_exact((all.len() / experts.count).max(1));
            rows.map(<[f32]>::to_vec).collect()
        };
        let [gate, up] = match name(Part::ExpertGateUp) {
            None => [rows(&read(Part::ExpertGate)?), rows(&read(Part::ExpertUp)?)],
            Some(_) => {
                let both = rows(&read(Part::ExpertGateUp)?);
                self.halves(experts.width).map(|half| {
                    let take = |row: &Vec<f32>| -> Vec<f32> {
                        let some = half.iter().flat_map(|some| &row[some.clone()]);
                        some.copied().collect()
                    };
                    both.iter().map(take).collect()
                })
            }
        };
        Ok(Some([gate, up, rows(&read(Part::ExpertDown)?)]))
    }
}

/// The name of an expert's part; `None` where all experts are in one tensor.
fn of(name: &str, n: usize) -> Option<String> {
    name.contains("{}")
        .then(|| name.replace("{}", &n.to_string()))
}
