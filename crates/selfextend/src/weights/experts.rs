//! The weights of sparse layers.

use super::{Checkpoint, Loader, Part};
use crate::backend::{Backend, Expert};
use crate::config::Experts;
use crate::decoder::{Linear, Sparse};
use crate::error::Result;
use crate::tensor::RawTensor;

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
            None => self.file.stack(&format!("{name}.weight"))?.is_some(),
        })
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
            let (weight, wanted) = (format!("{name}.weight"), [count, rows, columns]);
            return match self.file.stack(&weight)? {
                Some(found) if found == wanted => Ok(vec![weight]),
                Some(found) => Err(wrong(&weight, &found, &wanted)),
                None => Err(missing(&weight)),
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
                let bias = self.file.tensor(name)?.map(|bias| bias.to_floats());
                let bias = bias.unwrap_or_default();
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
        Ok(Sparse {
            router: self.router(router)?,
            used: experts.used,
            routing: experts.routing,
            choice_bias,
            experts: self.experts(experts, &name)?,
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
    ) -> Result<B::Experts> {
        let all = (0..experts.count).map(|n| self.expert(experts.width, name, n));
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
                let half = |first: usize| {
                    let rows = first..first + width;
                    self.matrix(name, both.take_rows(&[rows]))
                };
                (half(0)?, half(width)?)
            }
        };
        Ok(Expert {
            gate,
            up,
            down: matrix(Part::ExpertDown)?,
            biases: None,
        })
    }

    fn expert_tensor(&self, name: &str, n: usize) -> Result<RawTensor> {
        match of(name, n) {
            Some(name) => self.read(&name),
            None => {
                let name = format!("{name}.weight");
                let tensor = self.file.stacked(&name, n)?;
                tensor.ok_or_else(|| self.file.bad(format!("tensor {name} is missing")))
            }
        }
    }
}

/// The name of an expert's part; `None` where all experts are in one tensor.
fn of(name: &str, n: usize) -> Option<String> {
    name.contains("{}")
        .then(|| name.replace("{}", &n.to_string()))
}
