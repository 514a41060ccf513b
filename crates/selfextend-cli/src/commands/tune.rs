//! `selfextend tune`: settings of a method for a model, a context and a kind of text.

mod needle;
mod search;

use crate::args::tune::TuneArgs;
use crate::error::{CliError, Result};
use crate::setup::Setup;
use crate::{input, interrupt, output, progress};
use needle::Needles;
use search::{Candidate, Search, mean};
use selfextend::method::table::{At, Kind};
use selfextend::profile::{Losses, Profile};
use selfextend::{Method, TextModel};
use selfextend_eval::Speed;
use std::path::PathBuf;

/// The part of the text that settings are chosen by; they are judged on the rest.
const CHOOSING_SHARE: f64 = 0.6;

/// The default number of samples of the last round, and for judging.
const SAMPLES: usize = 4;

/// Finds settings and writes them.
pub fn tune(args: &TuneArgs) -> Result<()> {
    let _scope = interrupt::scope(interrupt::Mode::Ask);
    let text = input::file(&args.file)?;
    let context = args
        .model
        .context
        .ok_or_else(|| CliError::usage("--context is needed: settings are found for one length"))?;
    let setup = Setup::new(&args.model)?;
    let model = setup.source.load()?;
    let trained = model.model.config().trained_window;
    let at = At { trained, context };
    let tokens = model
        .tokenizer
        .encode(&text)
        .map_err(selfextend::Error::from)?;
    if tokens.len() < context {
        return Err(CliError::usage(format!(
            "{} has {} tokens, a context of {context} needs at least as many",
            args.file.display(),
            tokens.len()
        )));
    }
    let cut = (tokens.len() as f64 * CHOOSING_SHARE) as usize;
    let chosen_by = Needles::new(&model, &tokens[..cut], context, args.seed);
    let judged_on = Needles::new(&model, &tokens[cut..], context, args.seed ^ 0x5eed);

    let automatic = Method::automatic();
    let mut candidates = candidates(args, at)?;
    if !candidates.contains(&automatic) {
        candidates.push(automatic.clone());
    }
    chosen_by.check()?;
    let samples = args.samples.unwrap_or(if args.quick { 1 } else { SAMPLES });
    let search = Search { samples };
    // The winner and the automatic rule are judged.
    let measurements = search.measurements(candidates.len()) + 2 * samples;
    announce(args, &model, candidates.len(), measurements)?;
    let mut run = Measuring {
        setup: &setup,
        model: &model,
        at,
        bar: progress::Work::new("tune", measurements as f64),
        done: 0,
    };
    let ranked = search.run(candidates, &mut |method, sample, what| {
        run.losses(&chosen_by, method, sample, what)
    })?;
    let best = ranked.first().ok_or(CliError::Interrupted)?;
    // Ctrl-C ended the search, not what follows.
    let _scope = interrupt::scope(interrupt::Mode::Ask);

    let mut judge = |method: &Method| -> Result<Losses> {
        let mut all = Vec::new();
        for sample in 0..samples {
            match run.losses(&judged_on, method, sample, "judging") {
                Ok(losses) => all.push(losses),
                // What was judged before Ctrl-C counts.
                Err(CliError::Interrupted) if !all.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(mean(&all))
    };
    let path = setup.source.path();
    let mut profile = Profile::new(&setup.source.name, path, trained, context, &best.method)?;
    profile.samples = samples;
    profile.found = judge(&best.method)?;
    profile.automatic = if best.method == automatic {
        profile.found
    } else {
        judge(&automatic)?
    };
    drop(run);
    let written = output::to_json(&profile)?;
    let beside = Profile::beside(path);
    let output = match &args.output {
        Some(path) => Some(path),
        // A profile there is used without being asked for.
        None if profile.is_better() && best.method != automatic => Some(&beside),
        None => None,
    };
    if let Some(path) = output {
        output::file(path, &format!("{written}\n"))?;
    }
    if args.json {
        output::line(&written)
    } else {
        output::text(&report(&ranked, &profile, output))
    }
}

/// Says what the search costs, and refuses what takes longer than allowed.
fn announce(
    args: &TuneArgs,
    model: &TextModel,
    candidates: usize,
    measurements: usize,
) -> Result<()> {
    let context = args.model.context.unwrap_or_default();
    let speed = Speed::measure(&model.model, args.model.load.chunk)?;
    let seconds = measurements as f64 * speed.prefill_seconds(0..context);
    output::note(&format!(
        "{candidates} settings, at most {measurements} texts of {} tokens to read, about {}",
        output::grouped(context),
        output::duration(seconds),
    ));
    let less = if args.quick {
        "fewer --try values or a smaller --context"
    } else {
        "--quick, --samples 1, fewer --try values or a smaller --context"
    };
    args.limit.check(seconds, less)
}

/// Measures losses and shows how far the search has come.
struct Measuring<'a> {
    setup: &'a Setup,
    model: &'a TextModel,
    at: At,
    bar: progress::Work,
    /// Measurements that are finished.
    done: usize,
}

impl Measuring<'_> {
    /// What a method loses on one sample.
    fn losses(
        &mut self,
        needles: &Needles,
        method: &Method,
        sample: usize,
        what: &str,
    ) -> Result<Losses> {
        let extension = method.resolve(self.at.trained, self.at.context)?;
        let mut session = self
            .model
            .model
            .session(self.setup.source.options(extension))?;
        self.bar.label(&format!("{what}: {method}"));
        let losses = needles.losses(&mut session, sample, &mut |share| {
            self.bar.at(self.done as f64 + share);
        })?;
        self.done += 1;
        Ok(losses)
    }
}

/// The grid: what `--try` lists, or for SelfExtend windows and group sizes around the rule of thumb.
fn candidates(args: &TuneArgs, at: At) -> Result<Vec<Method>> {
    let base = args.model.method.clone().unwrap_or(Method::automatic());
    let written = if args.tried.is_empty() && base.name() == "selfextend" {
        if args.quick {
            quick_grid(at)
        } else {
            self_extend_grid(at)
        }
    } else if args.tried.is_empty() {
        let keys = base.entry().keys.iter();
        let keys: Vec<_> = keys
            .filter(|key| key.kind == Kind::Tokens || key.kind == Kind::Number)
            .map(|key| format!("--try {}=...", key.name))
            .collect();
        return Err(CliError::usage(format!(
            "{} has no default grid; say what to try: {}",
            base.name(),
            keys.join(", ")
        )));
    } else {
        let mut all = vec![Vec::new()];
        for (key, values) in &args.tried {
            let longer = |one: &Vec<String>| -> Vec<Vec<String>> {
                let with = |value| [&one[..], &[format!("{key}={value}")]].concat();
                values.iter().map(with).collect()
            };
            all = all.iter().flat_map(longer).collect();
        }
        let name = base.name();
        all.iter()
            .map(|parts| format!("{name}:{}", parts.join(",")))
            .collect()
    };
    let mut methods: Vec<Method> = Vec::new();
    let mut refused = None;
    for text in written {
        let method: Method = text.parse()?;
        match method.resolve(at.trained, at.context) {
            Ok(_) if !methods.contains(&method) => methods.push(method),
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if methods.is_empty() => Err(error.into()),
        _ => Ok(methods),
    }
}

/// Neighbour windows from L/16 to L/2, and for each the group sizes that end at shares of the
/// trained window.
fn self_extend_grid(At { trained, context }: At) -> Vec<String> {
    grid([16, 8, 4, 2], [0.4, 0.5, 0.65, 0.8, 1.0], trained, context)
}

/// Neighbour windows of a quarter and an eighth of the trained window, and for each the group sizes
/// that end at half and four fifths of it.
fn quick_grid(At { trained, context }: At) -> Vec<String> {
    grid([8, 4], [0.5, 0.8], trained, context)
}

/// SelfExtend with windows of the trained window divided by `divisors`, and for each the group sizes
/// whose largest relative position is one of `shares` of the trained window.
fn grid<const D: usize, const S: usize>(
    divisors: [usize; D],
    shares: [f64; S],
    trained: usize,
    context: usize,
) -> Vec<String> {
    let sizes = |window: usize| {
        shares.into_iter().filter_map(move |share| {
            let room = (share * trained as f64) as usize;
            let room = room.checked_sub(window).filter(|&room| room > 0)?;
            let size = context.saturating_sub(window).div_ceil(room);
            Some(format!("selfextend:G={size},W={window}"))
        })
    };
    let windows = divisors.map(|divisor| (trained / divisor).max(1));
    windows.into_iter().flat_map(sizes).collect()
}

fn report(ranked: &[Candidate], profile: &Profile, written: Option<&PathBuf>) -> String {
    let mut text = format!(
        "{:<40}{:>10}{:>10}{:>9}\n",
        "method", "needle", "text", "samples"
    );
    for candidate in ranked {
        let Losses { needle, text: nll } = mean(&candidate.losses);
        text += &format!(
            "{:<40}{needle:>10.4}{nll:>10.4}{:>9}\n",
            candidate.method.to_string(),
            candidate.losses.len()
        );
    }
    let (found, automatic) = (profile.found, profile.automatic);
    text += &format!(
        "\nOn text that the search did not use, {} has a needle loss of {:.4} (automatic rule {:.4}) and a text loss of {:.4} ({:.4}).\n",
        ranked[0].method, found.needle, automatic.needle, found.text, automatic.text,
    );
    if !profile.is_better() {
        text += "The automatic rule is better there: try more --samples.\n";
    }
    text += &match written {
        Some(path) => format!(
            "Written to {}; use it with --profile, or beside the model as MODEL.profile.json.\n",
            path.display()
        ),
        None => "Nothing was written: the automatic rule needs no profile.\n".into(),
    };
    text
}
