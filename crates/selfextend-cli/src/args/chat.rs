//! The grammar of `selfextend chat`.

use super::cache::CacheArgs;
use super::generate::GenerateArgs;
use super::model::ModelArgs;
use clap::Args;
use std::path::PathBuf;

/// Hold a conversation.
///
/// On a terminal, lines can be edited and have a history; /help lists the commands. From a pipe,
/// each line is one message, and only the answers go to stdout.
///
/// Within the trained window a conversation runs plain. When it outgrows the window, it is read again
/// under SelfExtend: for --context tokens, or without it for twice what it needs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend chat\n  selfextend chat --file book.txt --system \"Answer in one sentence.\""
)]
pub struct ChatArgs {
    /// A system message.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A text file to attach to the first message.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub generate: GenerateArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
}
