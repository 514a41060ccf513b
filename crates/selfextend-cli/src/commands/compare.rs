//! `selfextend compare`: every method at several lengths.

use super::eval::experiment::{Experiment, names, run, with_profile};
use crate::args::compare::CompareArgs;
use crate::error::Result;
use crate::output;
use crate::setup::Source;
use selfextend::{Method, TextModel};
use selfextend_eval::Shard;
use selfextend_eval::tasks::compare::{Compare, TASK, default_lengths, default_methods};
use selfextend_eval::tasks::{Prompter, files, passkey};
use serde_json::json;

/// Where the report goes by default.
const PAGE: &str = "compare.html";

/// What `--quick` compares.
const QUICK_METHODS: [&str; 3] = ["plain", "selfextend", "yarn"];

/// Compares methods.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let texts = if args.files.is_empty() {
        Vec::new()
    } else {
        files(&args.files, "txt")?
    };
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let trained = model.model.config().trained_window;
    let lengths = lengths(args, trained);
    let (methods, mut left_out) = methods(args, &source, &model, &lengths)?;
    let mut task = Compare::new(lengths);
    task.files = texts;
    task.segments = args.segments;
    task.passkey = (!args.no_passkey).then(|| passkeys(args));
    let (samples, too_short) = task.samples(&Prompter::new(&model, args.keys.chat)?)?;
    left_out.extend(too_short);
    if task.files.is_empty() {
        left_out.push("no text was given: perplexity is not compared".into());
    }
    for line in &left_out {
        output::note(&format!("note: {line}"));
    }
    let mut run_args = args.run.clone();
    // One shard is not a comparison yet.
    if run_args.show.html.is_none() && run_args.shard == Shard::WHOLE {
        run_args.show.html = Some(PAGE.into());
    }
    run(Experiment {
        task: TASK,
        args: &run_args,
        source: &source,
        model: &model,
        samples,
        settings: json!({
            "files": names(&task.files),
            "lengths": task.lengths,
            "segments": task.segments,
            "passkey": task.passkey.as_ref().map(|sweep| json!({
                "depths": sweep.depths,
                "trials": sweep.trials,
                "digits": sweep.digits,
                "seed": sweep.seed,
                "chat": args.keys.chat,
                "wordings": sweep.wordings.iter().map(|it| it.name()).collect::<Vec<_>>(),
            })),
            "left_out": left_out,
        }),
        methods: Some(methods),
        less: if args.quick {
            "shorter --lengths or fewer methods (--method)"
        } else {
            "--quick, shorter --lengths or fewer methods (--method)"
        },
    })?;
    if let (Some(path), false) = (&run_args.show.html, run_args.dry_run) {
        output::note(&format!("report: {}", path.display()));
    }
    Ok(())
}

fn lengths(args: &CompareArgs, trained: usize) -> Vec<usize> {
    if args.lengths.is_empty() {
        let quick = args.quick.then_some(2 * trained);
        default_lengths(trained, args.context.or(quick))
    } else {
        args.lengths.clone()
    }
}

/// The methods, and in words which are left out.
fn methods(
    args: &CompareArgs,
    source: &Source,
    model: &TextModel,
    lengths: &[usize],
) -> Result<(Vec<Method>, Vec<String>)> {
    if !args.run.methods.is_empty() {
        return Ok((args.run.methods.clone(), Vec::new()));
    }
    let (methods, left_out) = if args.quick {
        let methods = QUICK_METHODS.map(str::parse::<Method>);
        (methods.into_iter().collect::<Result<_, _>>()?, Vec::new())
    } else {
        default_methods(model.model.config().trained_window, lengths)?
    };
    // No samples: a length that a profile does not reach is a gap like any other.
    Ok((
        with_profile(methods, &args.run, source, model, &[])?,
        left_out,
    ))
}

fn passkeys(args: &CompareArgs) -> passkey::Sweep {
    let depths: &[f64] = if args.quick { &[0.1] } else { &[0.1, 0.5, 0.9] };
    let trials = if args.quick { 1 } else { 2 };
    let mut sweep = passkey::Sweep::new(Vec::new());
    sweep.depths = if args.depths.is_empty() {
        depths.to_vec()
    } else {
        args.depths.clone()
    };
    sweep.trials = args.trials.unwrap_or(trials);
    sweep.digits = args.keys.digits.into();
    sweep.seed = args.keys.seed;
    sweep
}
