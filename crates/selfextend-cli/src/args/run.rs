//! The grammar of `selfextend run`.

use super::cache::CacheArgs;
use super::generate::GenerateArgs;
use super::model::ModelArgs;
use clap::Args;
use std::path::PathBuf;

/// Answer one prompt.
///
/// The prompt consists of --file, stdin (if it is piped, and --file and PROMPT are not both given)
/// and PROMPT, in this order, with a blank line between them.
///
/// Without --context, a prompt that does not fit the trained window extends it automatically. A
/// prompt that fits keeps plain attention even if its answer may not fit: the answer then ends
/// where the window is full. Give --context to leave room for more: it then runs under SelfExtend if
/// the prompt and --max-tokens together do not fit the trained window.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend run \"Why is the sky blue?\"\n  selfextend run --file book.txt \"Who is the murderer?\"\n  git log | selfextend run \"Summarise these changes.\" --context 32k"
)]
pub struct RunArgs {
    /// What to ask; `-` stands for stdin.
    pub prompt: Option<String>,
    /// A text file to put before the prompt; `-` is stdin.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Continue the text as it is, without the model's chat template; special tokens written in it
    /// stand for themselves.
    #[arg(long)]
    pub raw: bool,
    /// With --raw, read special tokens such as `<s>` in the text as text like any other.
    #[arg(long, requires = "raw")]
    pub special_as_text: bool,
    /// A system message.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Write one JSON object at the end instead of streaming text.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub generate: GenerateArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
}
