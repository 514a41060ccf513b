//! `selfextend compare`: every method over a row of lengths.

use super::tasks::names;
use super::{Prepared, load, run, with_profile};
use crate::args::compare::CompareArgs;
use crate::error::Result;
use crate::output;
use selfextend_eval::Shard;
use selfextend_eval::tasks::compare::{Compare, TASK, default_lengths, default_methods};
use selfextend_eval::tasks::{Prompter, files, passkey};
use serde_json::json;

/// Where the report goes unless told.
const PAGE: &str = "compare.html";

/// Compares methods.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let found = match args.files.is_empty() {
        true => Vec::new(),
        false => files(&args.files, "txt")?,
    };
    let model = load(&args.run.model)?;
    let trained = model.model.config().trained_window;
    let lengths = match args.lengths.is_empty() {
        true => default_lengths(trained, args.context),
        false => args.lengths.clone(),
    };
    let (methods, mut left_out) = match args.run.methods.is_empty() {
        true => {
            let (methods, left_out) = default_methods(trained, &lengths)?;
            // What it does not reach is a gap like any other.
            (with_profile(methods, &args.run, &model, &[])?, left_out)
        }
        false => (args.run.methods.clone(), Vec::new()),
    };
    let mut passkey = passkey::Sweep::new(Vec::new());
    passkey.depths = args.depths.clone();
    passkey.trials = args.trials;
    passkey.digits = args.keys.digits.into();
    passkey.seed = args.keys.seed;
    let mut task = Compare::new(lengths);
    task.files = found;
    task.segments = args.segments;
    task.passkey = (!args.no_passkey).then_some(passkey);
    let (samples, too_short) = task.samples(&Prompter::new(&model, args.keys.chat)?)?;
    left_out.extend(too_short);
    if task.files.is_empty() {
        left_out.push("no text was given: perplexity is not compared".into());
    }
    left_out
        .iter()
        .for_each(|line| output::note(&format!("note: {line}")));
    let mut run_args = args.run.clone();
    // A part of the results is no comparison yet.
    if run_args.show.html.is_none() && run_args.shard == Shard::WHOLE {
        run_args.show.html = Some(PAGE.into());
    }
    run(Prepared {
        task: TASK,
        args: &run_args,
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
            })),
            "left_out": left_out,
        }),
        methods: Some(methods),
    })?;
    if let (Some(path), false) = (&run_args.show.html, run_args.dry_run) {
        output::note(&format!("report: {}", path.display()));
    }
    Ok(())
}
