//! `selfextend bench`: speed and memory at several depths.

use crate::args::bench::BenchArgs;
use crate::error::Result;
use crate::output;
use crate::setup::{SettingsReport, Setup, prefill};
use selfextend::sampling::Sampler;
use selfextend::{Sampling, Session, TextModel};
use selfextend_eval::PeakMemory;
use selfextend_eval::random::Random;
use serde::Serialize;
use std::time::Instant;

/// Measures each depth in turn.
pub fn bench(args: &BenchArgs) -> Result<()> {
    let setup = Setup::new(&args.model)?;
    let model = setup.source.load()?;
    let trained = model.model.config().trained_window;
    // All settings first: impossible ones are refused before anything runs.
    let chosen = args.depths.iter().map(|&depth| {
        let needed = depth + args.decode_tokens + 1;
        setup.choice.for_text(needed, trained)
    });
    let chosen = chosen.collect::<Result<Vec<_>>>()?;
    if !args.json {
        output::line("    depth  prefill tok/s  decode tok/s  peak MiB  settings")?;
    }
    for (&depth, chosen) in args.depths.iter().zip(chosen) {
        let memory = PeakMemory::start();
        let mut session = model
            .model
            .session(setup.source.options(chosen.extension))?;
        let mut row = measure(args, &setup, &model, &mut session, depth)?;
        row.peak_rss_mib = memory.bytes().map(output::mib);
        if args.json {
            output::json(&row)?;
        } else {
            output::line(&row.in_words(&session))?;
        }
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Row {
    depth: usize,
    prefill_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
    peak_rss_mib: Option<f64>,
    decode_tokens: usize,
    #[serde(flatten)]
    settings: SettingsReport,
}

impl Row {
    fn in_words(&self, session: &Session) -> String {
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        format!(
            "{:>9}  {:>13}  {:>12}  {:>8}  {}",
            self.depth,
            number(self.prefill_tok_s),
            number(self.decode_tok_s),
            number(self.peak_rss_mib),
            session.extension(),
        )
    }
}

fn measure(
    args: &BenchArgs,
    setup: &Setup,
    model: &TextModel,
    session: &mut Session,
    depth: usize,
) -> Result<Row> {
    let vocab = model.model.config().vocab as u64;
    let mut random = Random::new(args.seed);
    let mut token = || random.below(vocab) as u32;
    let tokens: Vec<u32> = (0..depth).map(|_| token()).collect();
    let mut first = token();
    let mut prefill_tok_s = None;
    let mut sampler = Sampler::new(Sampling::default())?;
    if depth > 0 {
        let (logits, seconds) = prefill(session, &tokens, &format!("prefill {depth}"))?;
        prefill_tok_s = Some(output::rounded(output::rate(depth, seconds), 2));
        first = sampler.draw(&logits);
    }
    let start = Instant::now();
    for _ in 0..args.decode_tokens {
        let logits = session.append(&[first])?;
        first = sampler.draw(&logits);
    }
    let seconds = start.elapsed().as_secs_f64();
    let decode = output::rounded(output::rate(args.decode_tokens, seconds), 2);
    Ok(Row {
        depth,
        prefill_tok_s,
        decode_tok_s: (args.decode_tokens > 0).then_some(decode),
        peak_rss_mib: None,
        decode_tokens: args.decode_tokens,
        settings: SettingsReport::new(setup, session),
    })
}
