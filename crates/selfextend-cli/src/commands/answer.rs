//! One answer: prefill and generation, with their times.

use crate::args::generate::GenerateArgs;
use crate::error::{CliError, Result};
use crate::setup::{Source, TextCache};
use crate::{interrupt, output, setup};
use selfextend::sampling::Sampler;
use selfextend::speculate::{Draft, Speculated};
use selfextend::tokenizer::Tokenizer;
use selfextend::{Finish, GenerateOptions, Generation, ModelFile, Sampling, Session};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// A finished answer.
#[derive(Debug)]
pub struct Answer {
    pub generation: Generation,
    pub prefill_tokens: usize,
    /// Tokens before them that were in the cache of long texts.
    pub cached_tokens: usize,
    pub prefill_s: f64,
    pub decode_s: f64,
}

/// The options of a generation, checked before the model is loaded.
pub fn options(args: &GenerateArgs) -> Result<GenerateOptions> {
    Sampler::new(args.into())?;
    Ok(GenerateOptions::new()
        .with_max_tokens(args.max_tokens)
        .with_stop(args.stop.clone())
        .with_sampling(args.into())
        .with_speculate(args.speculate))
}

/// The options for a model: with the sampling that its publisher recommends, if that is asked for.
pub fn for_model(
    options: GenerateOptions,
    args: &GenerateArgs,
    source: &Source,
) -> Result<GenerateOptions> {
    if args.speculate {
        source.check_speculate("--speculate")?;
    }
    if !args.recommended_sampling {
        return Ok(options);
    }
    let sampling = recommended_sampling(source.path())?.with_seed(args.seed);
    Ok(options.with_sampling(sampling))
}

/// The sampling that the model's publisher recommends, within its ranges.
pub fn recommended_sampling(model: &Path) -> Result<Sampling> {
    let sampling = ModelFile::open(model)?.recommended_sampling()?;
    let sampling = sampling.ok_or_else(|| {
        CliError::usage(
            "--recommended-sampling: the model recommends none, neither in a generation_config.json nor by general.sampling keys of its header",
        )
    })?;
    Sampler::new(sampling.clone())?;
    Ok(sampling)
}

/// Appends what the session lacks of the prompt, whose beginning it holds, and generates an answer;
/// `on_text` gets it piece by piece.
pub fn answer(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    options: &GenerateOptions,
    draft: Option<&mut Draft>,
    cache: Option<&TextCache>,
    on_text: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Answer> {
    let begun = Instant::now();
    // What an answer was written with has other bits than what is read: only fresh texts are kept.
    let kept = match (cache, session.is_empty()) {
        (Some(cache), true) => cache.of(prompt.len(), session)?,
        _ => None,
    };
    let cached = match kept {
        Some((cache, passes)) => cache.restore(session, prompt, passes)?,
        None => 0,
    };
    let restore_s = begun.elapsed().as_secs_f64();
    let tokens = &prompt[session.len()..];
    let (logits, prefill_s) = match kept {
        Some((cache, passes)) => setup::prefill_kept(session, prompt, "reading", cache, passes)?,
        None => setup::prefill(session, tokens, "reading")?,
    };
    let start = Instant::now();
    let mut pieces =
        selfextend::Answer::with_draft(session, tokenizer, prompt, logits, options, draft)?;
    while let Some(piece) = pieces.next().transpose()? {
        on_text(&piece)?;
        if interrupt::asked() {
            break;
        }
    }
    let generation = pieces.into_generation();
    let decode_s = start.elapsed().as_secs_f64();
    if let Some(fault) = &generation.draft_fault {
        output::note(&format!(
            "note: the draft model of --draft failed, and the answer went on without it: {fault}"
        ));
    }
    Ok(Answer {
        generation,
        prefill_tokens: tokens.len(),
        cached_tokens: cached,
        prefill_s: prefill_s + restore_s,
        decode_s,
    })
}

impl Answer {
    /// The line of statistics that ends an answer.
    pub fn statistics(&self, session: &Session) -> String {
        let generated = self.generation.tokens.len();
        let cached = match self.cached_tokens {
            0 => String::new(),
            cached => format!(" after {cached} cached ones"),
        };
        let guesses = self.generation.speculated.map_or(String::new(), |it| {
            let Speculated { proposed, accepted } = it;
            format!(" | {accepted} of {proposed} proposed tokens accepted")
        });
        format!(
            "[prompt {} tokens{cached} in {:.1} s, {:.0} tok/s | answer {generated} tokens, {:.1} tok/s, {}{guesses} | context {}/{} | {}]",
            self.prefill_tokens,
            self.prefill_s,
            output::rate(self.prefill_tokens, self.prefill_s),
            output::rate(generated, self.decode_s),
            finish_in_words(&self.generation.finish),
            session.len(),
            session.context(),
            session.extension(),
        )
    }
}

/// What became of proposed tokens, for JSON.
#[derive(Debug, Serialize)]
pub struct SpeculatedReport {
    proposed: usize,
    accepted: usize,
}

impl From<Speculated> for SpeculatedReport {
    fn from(Speculated { proposed, accepted }: Speculated) -> Self {
        Self { proposed, accepted }
    }
}

/// Why a generation ended, for people.
fn finish_in_words(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndToken => "complete",
        Finish::Stop(_) => "ended by --stop",
        Finish::MaxTokens => "cut at --max-tokens",
        Finish::ContextFull => "cut because the context is full",
        Finish::Stopped => "stopped",
    }
}

/// Why a generation ended, for JSON.
pub fn finish_in_json(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndToken => "end",
        Finish::Stop(_) => "stop",
        Finish::MaxTokens => "max_tokens",
        Finish::ContextFull => "context_full",
        Finish::Stopped => "interrupted",
    }
}
