//! The grammar of the command line, a file for each command. What the commands do is in `commands`.

pub mod bench;
pub mod cache;
pub mod chat;
pub mod compare;
pub mod demo;
pub mod eval;
pub mod generate;
pub mod inspect;
pub mod limit;
pub mod model;
pub mod plot;
pub mod pull;
pub mod run;
pub mod score;
pub mod serve;
pub mod tune;
mod values;

use clap::{Parser, Subcommand};

/// Run language models past the context window they were trained on, exactly, with no fine-tuning.
#[derive(Debug, Parser)]
#[command(
    name = "selfextend",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Start with:\n  selfextend demo\n  selfextend run \"Why is the sky blue?\"\n  selfextend run --file book.txt \"Who is the narrator?\""
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt, streamed to stdout.
    Run(run::RunArgs),
    /// Hold a conversation.
    Chat(chat::ChatArgs),
    /// Show what a model file says, how far it can be extended, and the positions SelfExtend uses.
    Inspect(inspect::InspectArgs),
    /// Measure how well the model predicts each token of a text.
    Score(score::ScoreArgs),
    /// Draw perplexity by position from the output of `score`, as an SVG.
    Plot(plot::PlotArgs),
    /// Measure prefill and decode speed and memory at several depths.
    Bench(bench::BenchArgs),
    /// Hide a passkey in a long text and ask for it, with plain attention and with SelfExtend.
    Demo(demo::DemoArgs),
    /// Run the paper's experiments, with tables and plots.
    Eval(eval::EvalArgs),
    /// Serve OpenAI's API; long requests extend the context automatically.
    Serve(serve::ServeArgs),
    /// Download a model and print its path.
    Pull(pull::PullArgs),
    /// Show or empty the cache of long texts that run, chat and score keep.
    Cache(cache::CacheCommand),
    /// Find the best settings of a method for a model, a context and a text.
    Tune(tune::TuneArgs),
    /// Run every method at several lengths, on your text and on passkeys, with tables and plots.
    Compare(compare::CompareArgs),
}
