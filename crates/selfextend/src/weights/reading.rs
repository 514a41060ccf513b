//! The parts of a model that have weights, and how a family stores them.

/// The parts of a transformer block that have weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    AttentionNorm,
    Query,
    Key,
    Value,
    /// Queries, keys and values one below the other, or head by head.
    QueryKeyValue,
    QueryNorm,
    KeyNorm,
    /// A score of each query head without a value; its name is whole.
    Sinks,
    AttentionOutput,
    PostAttentionNorm,
    FeedForwardNorm,
    Gate,
    Up,
    /// The gate, then what it gates.
    GateUp,
    Down,
    PostFeedForwardNorm,
    /// What experts are chosen by.
    Router,
    /// What is added to it for the choice; its name is whole.
    ChoiceBias,
    ExpertGate,
    ExpertUp,
    /// The gate of an expert, then what it gates.
    ExpertGateUp,
    ExpertDown,
    SharedGate,
    SharedUp,
    /// The gate of what all tokens share, then what it gates.
    SharedGateUp,
    SharedDown,
    /// What its outputs are multiplied by.
    SharedSwitch,
}

impl Part {
    /// Whether each expert of a sparse layer has one.
    pub(crate) fn is_expert(self) -> bool {
        use Part::{ExpertDown, ExpertGate, ExpertGateUp, ExpertUp};
        matches!(self, ExpertGate | ExpertUp | ExpertGateUp | ExpertDown)
    }
}

/// The parts that have biases in families whose linear layers and norms all have them.
pub(crate) const ALL_BIASED: &[Part] = &[
    Part::AttentionNorm,
    Part::FeedForwardNorm,
    Part::QueryKeyValue,
    Part::Query,
    Part::Key,
    Part::Value,
    Part::AttentionOutput,
    Part::Up,
    Part::Down,
];

/// The same without the linear layers of attention.
pub(crate) const PLAIN_BIASED: &[Part] = &[
    Part::AttentionNorm,
    Part::FeedForwardNorm,
    Part::Up,
    Part::Down,
];

/// Where a family keeps its tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub embedding: &'static str,
    pub output_norm: &'static str,
    pub output: &'static str,
    /// What the names of a block start with; `{}` is its number.
    pub layer: &'static str,
    /// The parts of a block. A fused part is listed beside the parts that it may stand for. Where
    /// each head has a norm of its own, `{}` in their name is the head; without it they are rows of one
    /// tensor. So is the number of an expert in the names of its parts; of several such names, the file
    /// has one.
    pub parts: &'static [&'static [(Part, &'static str)]],
    /// Endings of the names of tensors that are not loaded here.
    pub ignored: &'static [&'static str],
    /// Beginnings of the names of tensors that texts do not pass.
    pub unread: &'static [&'static str],
}

/// How a checkpoint is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub names: Names,
    /// Added to the file's norm weights.
    pub norm_offset: f32,
    /// How queries, keys and values are fused.
    pub fused: Fused,
    pub tied: Tied,
    /// Parts that must have a bias. Others may, unless they are in the next list.
    pub biased: Vec<Part>,
    /// Parts that must have none.
    pub unbiased: Vec<Part>,
    /// Where one tensor holds all experts.
    pub stacks: Stacks,
    /// Parts that blocks have not got, though others of the family do.
    pub lacking: Vec<Part>,
    /// The activations of layers that differ in it.
    pub curves: Curves,
    /// The norms of blocks, and the last one, have no weights: they only normalise.
    pub plain_norms: bool,
    /// Blocks have no norm before their feed-forward layer, which reads what attention reads. One
    /// that the file has all the same is not read, as in `transformers`.
    pub shares_norm: bool,
    /// Blocks after the last one that only guess several tokens ahead. They are not loaded.
    pub ahead: usize,
}

/// Where the activations of layers that differ in it are described: the four numbers of
/// [`XieLu::trained`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Curves {
    /// Nowhere: all layers have the same.
    None,
    /// In tensors of one number each; what their names end in, after that of their block.
    Tensors([&'static str; 4]),
    /// Here, layer by layer.
    Listed(Vec<[f32; 4]>),
}

/// How tensors hold the matrices of all experts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stacks {
    /// In those whose names do not end in `.weight`, inputs are rows and outputs columns.
    pub turned: bool,
    /// A gate's row and that of what it gates take turns.
    pub alternate: bool,
}

/// In which order the rows of fused queries, keys and values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fused {
    /// All queries, all keys, all values.
    InTurn,
    /// The query, key and value of each head, all of which have keys of their own.
    ByHead,
    /// In so many groups of heads: their queries, then their values, then their keys.
    InGroups(usize),
}

/// Whether the embedding also serves as output head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tied {
    No,
    /// A head beside it must be the same.
    Yes,
    /// It does if there is no other head.
    IfAlone,
    /// It does unless there is a head that differs.
    UnlessDifferent,
}
