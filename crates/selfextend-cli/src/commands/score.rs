//! `selfextend score`: the negative log-likelihood of every token.

use crate::args::score::ScoreArgs;
use crate::error::{CliError, Result};
use crate::progress::Prefill;
use crate::setup::{SettingsReport, Setup, TextCache, kept_at_once};
use crate::{input, output};
use selfextend::{Session, TextModel};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

/// Scores a text or ids.
pub fn score(args: &ScoreArgs) -> Result<()> {
    let source = Source::read(args)?;
    let setup = Setup::new(&args.model)?;
    let model = setup.source.load()?;
    let ids = source.ids(&model)?;
    if ids.len() < 2 {
        return Err(CliError::usage(format!(
            "nothing to score: the text has {} token{}, and the first token is never scored",
            ids.len(),
            if ids.len() == 1 { "" } else { "s" }
        )));
    }
    let why = format!("{} tokens do not fit", ids.len());
    let mut session = setup.session(&model, ids.len(), &why)?;
    let start = Instant::now();
    let cache = TextCache::new(&args.cache, &setup.source);
    let nll = score_ids(args, &mut session, &ids, &cache)?;
    let seconds = start.elapsed().as_secs_f64();
    let summary = Summary::new(args, &setup, &session, &nll, seconds);
    if args.summary {
        output::json(&summary)?;
    }
    output::note(&summary.in_words(&session));
    Ok(())
}

/// The text to score, read before the model is loaded.
enum Source {
    Text(String),
    Ids(Vec<u32>),
}

impl Source {
    fn read(args: &ScoreArgs) -> Result<Self> {
        if let Some(path) = &args.ids {
            let ids = serde_json::from_str(&input::file(path)?).map_err(|error| {
                CliError::failure(format!(
                    "{} is not a JSON array of token ids: {error}",
                    path.display()
                ))
            })?;
            return Ok(Self::Ids(ids));
        }
        let text = match &args.file {
            Some(path) => input::file(path)?,
            None if input::stdin_is_piped() => input::file(Path::new("-"))?,
            None => {
                return Err(CliError::usage(
                    "no text to score: give --file, --ids, or a text on stdin",
                ));
            }
        };
        if text.is_empty() {
            return Err(CliError::usage("the text to score is empty"));
        }
        Ok(Self::Text(text))
    }

    fn ids(self, model: &TextModel) -> Result<Vec<u32>> {
        match self {
            Self::Text(text) => Ok(model.encode(&text)?),
            Self::Ids(ids) => Ok(ids),
        }
    }
}

/// The negative log-likelihood of `ids[1..]`, written as JSON lines chunk by chunk.
fn score_ids(
    args: &ScoreArgs,
    session: &mut Session,
    ids: &[u32],
    cache: &TextCache,
) -> Result<Vec<f64>> {
    let (chunk, vocab) = (args.model.load.chunk, session.model().config().vocab);
    if let Some(position) = ids.iter().position(|&id| id as usize >= vocab) {
        return Err(selfextend::Error::Token {
            id: ids[position],
            position,
            vocab,
        }
        .into());
    }
    let layers = session.model().config().layers;
    let mut bar = Prefill::new("scoring", ids.len(), chunk, layers);
    let seen = &ids[..ids.len().saturating_sub(1)];
    let kept = cache.of(seen.len(), session)?;
    // `ln p` of the tokens after the first.
    let mut scores = match kept {
        Some((cache, passes)) => cache.restore_scores(session, ids, passes)?,
        None => Vec::new(),
    };
    // Not `-log_probability`, which prints zero as -0.
    let mut nll: Vec<f64> = scores.iter().map(|score| 0.0 - score).collect();
    if !args.summary {
        output::text(&lines(ids, &nll, 0)?)?;
    }
    let passes = match kept {
        Some((_, passes)) if nll.len() < seen.len() => {
            passes.rest(nll.len(), kept_at_once(session))
        }
        Some(_) => Vec::new(),
        None => {
            let starts = (0..seen.len()).step_by(chunk);
            starts.map(|at| at..(at + chunk).min(seen.len())).collect()
        }
    };
    for pass in passes {
        let tokens = &seen[pass];
        let from = nll.len();
        let layer = |_| {
            bar.layer(from);
            Ok(())
        };
        let next = &ids[from + 1..][..tokens.len()];
        session.score_with(tokens, next, layer, |_, score| {
            scores.push(score.log_probability);
            nll.push(0.0 - score.log_probability);
        })?;
        if let Some((cache, passes)) = kept {
            cache.keep(session, ids, passes, from)?;
            cache.keep_scores(session, ids, passes, &scores, from)?;
        }
        if !args.summary {
            output::text(&lines(ids, &nll, from)?)?;
        }
    }
    Ok(nll)
}

#[derive(Serialize)]
struct Line {
    position: usize,
    id: u32,
    nll: f64,
}

/// Lines for the values from `from` on; `nll[i]` belongs to the token at position `i + 1`.
fn lines(ids: &[u32], nll: &[f64], from: usize) -> Result<String> {
    let mut text = String::new();
    for (i, &value) in nll.iter().enumerate().skip(from) {
        let line = Line {
            position: i + 1,
            id: ids[i + 1],
            nll: output::rounded(value, 6),
        };
        let _ = writeln!(text, "{}", output::to_json(&line)?);
    }
    Ok(text)
}

#[derive(Serialize)]
struct Bucket {
    first_position: usize,
    last_position: usize,
    mean_nll: f64,
}

#[derive(Serialize)]
struct Summary {
    tokens: usize,
    scored: usize,
    mean_nll: f64,
    perplexity: f64,
    bucket: usize,
    buckets: Vec<Bucket>,
    seconds: f64,
    tok_s: f64,
    settings: SettingsReport,
}

impl Summary {
    fn new(args: &ScoreArgs, setup: &Setup, session: &Session, nll: &[f64], seconds: f64) -> Self {
        let mean = |some: &[f64]| some.iter().sum::<f64>() / some.len() as f64;
        let buckets = nll.chunks(args.bucket).enumerate().map(|(b, some)| Bucket {
            first_position: b * args.bucket + 1,
            last_position: b * args.bucket + some.len(),
            mean_nll: output::rounded(mean(some), 6),
        });
        Self {
            tokens: nll.len() + 1,
            scored: nll.len(),
            mean_nll: output::rounded(mean(nll), 6),
            perplexity: output::rounded(mean(nll).exp(), 4),
            bucket: args.bucket,
            buckets: buckets.collect(),
            seconds: output::rounded(seconds, 3),
            tok_s: output::rounded(output::rate(nll.len() + 1, seconds), 1),
            settings: SettingsReport::new(setup, session),
        }
    }

    fn in_words(&self, session: &Session) -> String {
        format!(
            "[{} tokens: mean nll {:.4}, perplexity {:.2} | {:.1} s, {:.0} tok/s | context {}/{} | {}]",
            self.tokens,
            self.mean_nll,
            self.perplexity,
            self.seconds,
            self.tok_s,
            session.len(),
            session.context(),
            session.extension(),
        )
    }
}
