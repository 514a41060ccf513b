//! How a token's experts are chosen.

use super::scratch::ExpertScratch;
use crate::element::Element;
use crate::error::CudaError;
use crate::launch::{Choosing, Value};
use crate::linear::FEW;
use crate::memory::Buffer;
use crate::ops::{MOST_BLOCKS, Ops, rows};
use cudarc::driver::CudaSlice;

/// How experts are chosen and weighed, from one number for each of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// Experts that read a token.
    pub used: usize,
    /// What makes weights of the router's numbers.
    pub score: Score,
    /// The weights of a token's experts are divided by their sum.
    pub normalised: bool,
    /// What weights are multiplied by at last.
    pub scale: f32,
    /// Experts are in so many groups of equal size, neighbours together...
    pub groups: usize,
    /// ...of which a token's are in so many: those whose two largest scores have the largest sums.
    pub groups_used: usize,
}

/// What makes weights of the router's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// A softmax over all experts.
    Softmax,
    /// A softmax over those that were chosen.
    ChosenSoftmax,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

impl Routing {
    fn check(&self, experts: usize) -> Result<(), CudaError> {
        let Self {
            used,
            groups,
            groups_used,
            ..
        } = *self;
        let fits = (1..=experts).contains(&used)
            && groups > 0
            && experts.is_multiple_of(groups)
            && (1..=groups).contains(&groups_used)
            && used <= experts / groups * groups_used;
        if fits {
            return Ok(());
        }
        Err(CudaError::Shape(format!(
            "{used} of {experts} experts cannot be in {groups_used} of {groups} groups"
        )))
    }
}

impl<T: Element> Ops<T> {
    /// Chooses experts for each row of `router`, into the scratch: of equal ones the first, each token's
    /// in the order of their numbers. What is not a number is chosen first, so that it shows.
    pub(crate) fn choose(
        &self,
        experts: usize,
        (routing, bias): (&Routing, Option<&CudaSlice<f32>>),
        router: &Buffer<f32>,
        scratch: &mut ExpertScratch<T>,
    ) -> Result<(), CudaError> {
        routing.check(experts)?;
        if bias.is_some_and(|bias| bias.len() != experts) {
            return Err(CudaError::Shape(
                "a router's bias is not one number for each expert".into(),
            ));
        }
        let Routing { used, groups, .. } = *routing;
        let tokens = rows(router.len(), experts)?;
        if used * FEW > MOST_BLOCKS {
            return Err(CudaError::Shape(format!(
                "{used} experts of a token are too many"
            )));
        }
        scratch.chosen.resize(&self.device, tokens * used)?;
        scratch.weights.resize(&self.device, tokens * used)?;
        let values = [
            self.at(router.slice()?),
            bias.map_or(Value::Pointer(0), |bias| self.at(bias)),
            self.at(scratch.chosen.slice()?),
            self.at(scratch.weights.slice()?),
            Value::Choosing(Choosing {
                experts: experts as i32,
                used: used as i32,
                score: routing.score as i32,
                normalised: i32::from(routing.normalised),
                groups: groups as i32,
                groups_used: routing.groups_used as i32,
                scale: routing.scale,
                unused: 0,
            }),
        ];
        let shared = (2 * experts + groups + 2 * used) * size_of::<f32>();
        let kernel = &self.experts.choose;
        self.launch_grid(kernel, [tokens, 1], [32, shared], &values)
    }
}
