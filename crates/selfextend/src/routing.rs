//! How the sparse layers of a mixture of experts choose, for each token, the experts that read it.

/// The sparse feed-forward layers of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that read a token.
    pub used: usize,
    /// Width of an expert.
    pub width: usize,
    /// Width of what reads every token beside the experts; 0 for none.
    pub shared_width: usize,
    /// Gates are cut to at most this, and what they gate to `[-limit, limit]` before 1 is added to it.
    pub limit: Option<f32>,
    /// How experts are chosen and weighed.
    pub routing: Routing,
    /// Which layers are sparse, first layer first; the others have one feed-forward layer.
    pub sparse: Vec<bool>,
}

/// How experts are chosen and weighed, from one number for each of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// What makes weights of these numbers.
    pub score: Score,
    /// The weights of a token's experts are divided by their sum.
    pub normalised: bool,
    /// What weights are multiplied by at last.
    pub scale: f32,
    /// Experts are in so many groups of equal size, neighbours together...
    pub groups: usize,
    /// ...of which a token's are in so many: those whose two largest scores have the largest sums
    /// (arXiv 2412.19437, section 2.1.2).
    pub groups_used: usize,
}

/// What makes weights of the router's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// A softmax over all experts.
    Softmax,
    /// A softmax over those that were chosen.
    ChosenSoftmax,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Each expert by a softmax of its own (arXiv 2409.12136, section 2.2): over those that were not
    /// chosen before and are less than twice this below the largest of them, relative to the larger of
    /// its size and theirs.
    Nearest(f32),
}

impl Routing {
    /// A softmax over all experts, whose chosen weights are left as they are.
    pub const SOFTMAX: Self = Self {
        score: Score::Softmax,
        normalised: false,
        scale: 1.0,
        groups: 1,
        groups_used: 1,
    };
}

/// More experts than any layer has.
const MAX_EXPERTS: usize = 1 << 16;

impl Experts {
    /// Whether a layer is sparse.
    pub fn is_sparse(&self, layer: usize) -> bool {
        self.sparse.get(layer) == Some(&true)
    }

    /// Whether GPUs have no kernels for it.
    pub(crate) fn is_for_cpu(&self) -> bool {
        matches!(self.routing.score, Score::Nearest(_)) || self.limit.is_some()
    }

    /// Checks that experts can be chosen as it says.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self {
            count,
            used,
            width,
            routing,
            ..
        } = *self;
        if count == 0 || count > MAX_EXPERTS {
            return Err(format!("no model has layers of {count} experts"));
        }
        if used == 0 || used > count {
            return Err(format!("{used} of {count} experts cannot read a token"));
        }
        for (name, width, least) in [
            ("experts", width, 1),
            ("shared experts", self.shared_width, 0),
        ] {
            if width < least || width > 1 << 24 {
                return Err(format!("no model has {name} of width {width}"));
            }
        }
        let Routing {
            scale,
            groups,
            groups_used,
            ..
        } = routing;
        if groups == 0 || !count.is_multiple_of(groups) {
            return Err(format!("{count} experts are no {groups} groups"));
        }
        if groups_used == 0 || groups_used > groups || used > count / groups * groups_used {
            return Err(format!(
                "{used} experts of a token cannot be in {groups_used} of {groups} groups of {}",
                count / groups
            ));
        }
        if let Some(limit) = self.limit.filter(|&it| it.is_nan() || it <= 0.0) {
            return Err(format!("no model cuts its experts' gates to {limit}"));
        }
        if let Score::Nearest(jitter) = routing.score
            && (used > 2 || groups > 1 || routing.normalised || !jitter.is_finite())
        {
            return Err(format!(
                "{used} experts of a token in {groups} groups, normalised or with a jitter of {jitter}: \
                 experts that are chosen one after the other are at most 2, in one group"
            ));
        }
        if !scale.is_finite() {
            return Err(format!("weights of experts cannot be scaled by {scale}"));
        }
        Ok(())
    }
}

/// An expert of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Choice {
    pub expert: usize,
    /// What its output is multiplied by.
    pub weight: f32,
}

/// Memory of [`Routing::choose`].
#[derive(Debug, Default)]
pub(crate) struct ChoiceScratch {
    scores: Vec<f32>,
    /// What experts are chosen by; those that cannot be are at negative infinity.
    ranks: Vec<f32>,
    groups: Vec<f32>,
}

impl Routing {
    /// Chooses as many experts for one token as there is room in `chosen`, and puts them there in
    /// the order of their numbers, so that what they give is always added in the same order.
    ///
    /// `router` has a number for each expert, `bias` (or nothing) what is added to scores for the
    /// choice alone. Of equal experts the first is chosen. What is not a number is chosen first, so
    /// that it shows in what the layer gives.
    pub(crate) fn choose(
        &self,
        router: &[f32],
        bias: &[f32],
        chosen: &mut [Choice],
        scratch: &mut ChoiceScratch,
    ) {
        let ChoiceScratch {
            scores,
            ranks,
            groups,
        } = scratch;
        scores.clear();
        scores.extend_from_slice(router);
        match self.score {
            Score::Softmax => softmax(scores),
            Score::ChosenSoftmax | Score::Nearest(_) => {}
            Score::Sigmoid => scores.iter_mut().for_each(|x| *x = sigmoid(*x)),
        }
        ranks.clear();
        ranks.extend_from_slice(scores);
        ranks.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        if self.groups_used < self.groups {
            self.leave_groups(ranks, groups);
        }
        for choice in &mut *chosen {
            let expert = largest(ranks);
            let weight = match self.score {
                Score::Nearest(jitter) => nearest(scores, ranks, ranks[expert], jitter),
                _ => scores[expert],
            };
            ranks[expert] = f32::NEG_INFINITY;
            *choice = Choice { expert, weight };
        }
        if self.score == Score::ChosenSoftmax {
            let most = chosen.first().map_or(0.0, |choice| choice.weight);
            chosen
                .iter_mut()
                .for_each(|choice| choice.weight = (choice.weight - most).exp());
        }
        if self.normalised || self.score == Score::ChosenSoftmax {
            let sum: f32 = chosen.iter().map(|choice| choice.weight).sum();
            // All weights may be 0, as those of sigmoids far below.
            let sum = if sum == 0.0 { 1.0 } else { sum };
            chosen.iter_mut().for_each(|choice| choice.weight /= sum);
        }
        chosen
            .iter_mut()
            .for_each(|choice| choice.weight *= self.scale);
        chosen.sort_unstable_by_key(|choice| choice.expert);
    }

    /// Leaves experts of the best groups; the others cannot be chosen.
    fn leave_groups(&self, ranks: &mut [f32], groups: &mut Vec<f32>) {
        let size = ranks.len() / self.groups;
        groups.clear();
        groups.extend(ranks.chunks_exact(size).map(two_largest));
        for _ in self.groups_used..self.groups {
            // The last of the worst, as the first of equals is better.
            let worst = (0..groups.len())
                .rev()
                .filter(|&n| groups[n] < f32::INFINITY);
            let worst = worst.reduce(|a, b| if groups[b] < groups[a] { b } else { a });
            let Some(worst) = worst else { return };
            groups[worst] = f32::INFINITY;
            ranks[worst * size..][..size].fill(f32::NEG_INFINITY);
        }
    }
}

/// The weight of the largest of those that are left, in `ranks`, among those near it.
fn nearest(scores: &[f32], ranks: &[f32], largest: f32, jitter: f32) -> f32 {
    let is_far = |x: f32| (largest - x) / x.abs().max(largest) > 2.0 * jitter;
    let near = scores.iter().zip(ranks).filter(|(x, _)| !is_far(**x));
    let sum: f32 = near.map(|(_, rank)| (rank - largest).exp()).sum();
    1.0 / sum
}

/// The index of the largest number, the first of equals; what is not a number is larger than all.
fn largest(x: &[f32]) -> usize {
    let mut best = 0;
    for (n, value) in x.iter().enumerate() {
        if x[best].is_nan() {
            break;
        }
        if value.is_nan() || *value > x[best] {
            best = n;
        }
    }
    best
}

/// The sum of the two largest numbers; the number where there is one.
fn two_largest(x: &[f32]) -> f32 {
    let first = largest(x);
    let others = x.iter().enumerate().filter(|(n, _)| *n != first);
    let second = others.map(|(_, x)| *x).reduce(f32::max);
    x[first] + second.unwrap_or(0.0)
}

/// `1 / (1 + e^-x)`.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(x: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

#[cfg(test)]
mod tests;
