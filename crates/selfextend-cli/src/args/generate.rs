//! How answers are generated.

use super::values::some_text;
use clap::Args;
use selfextend::Sampling;
use selfextend::settings::parse_tokens;

/// How tokens are chosen, and when an answer ends.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Generation")]
pub struct GenerateArgs {
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 256, value_name = "N", value_parser = parse_tokens)]
    pub max_tokens: usize,
    /// Randomness; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub temperature: f32,
    /// Draw from the K most probable tokens only; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: usize,
    /// Draw from the most probable tokens that together have this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f32,
    /// Leave out tokens whose probability is less than this share of the most probable one's.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub min_p: f32,
    /// Make recent tokens less probable; 1 changes nothing.
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub repetition_penalty: f32,
    /// Sample as the model's generation_config.json or GGUF header recommends (`inspect` shows it).
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"])]
    pub recommended_sampling: bool,
    /// Seed of the draws: the same seed gives the same text.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// End the answer before this text (repeatable).
    #[arg(long, value_name = "TEXT", value_parser = some_text)]
    pub stop: Vec<String>,
    /// Guess tokens that stood in the prompt or the answer after the same words, and verify several in
    /// one pass, where that is faster; the text is the same (CPU only).
    #[arg(long)]
    pub speculate: bool,
    /// A small model with the same vocabulary, named as --model is, that guesses tokens too: several
    /// are verified in one pass, where that is faster; the text is the same (CPU only). It runs with
    /// --kv-type, --linear, --chunk and --threads, and its own window is extended where a text does not
    /// fit. With --speculate, the text is looked up first: the draft guesses where it is likelier to
    /// be right.
    #[arg(long, value_name = "NAME|PATH|ID")]
    pub draft: Option<String>,
}

impl From<&GenerateArgs> for Sampling {
    fn from(args: &GenerateArgs) -> Self {
        Self::new()
            .with_temperature(args.temperature)
            .with_top_k(args.top_k)
            .with_top_p(args.top_p)
            .with_min_p(args.min_p)
            .with_repetition_penalty(args.repetition_penalty)
            .with_seed(args.seed)
    }
}
