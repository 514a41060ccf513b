//! From arguments to samples, a function for each task.

use super::experiment::{Experiment, names, run};
use crate::args::eval::{
    AblationArgs, AblationOn, ChoiceArgs, LevalArgs, LongbenchArgs, PasskeyArgs, PerplexityArgs,
    SweepArgs,
};
use crate::error::{CliError, Result};
use crate::setup::Source;
use selfextend_eval::tasks::choice::ChoiceTask;
use selfextend_eval::tasks::leval::LEval;
use selfextend_eval::tasks::longbench::LongBench;
use selfextend_eval::tasks::perplexity::{Mode, Perplexity};
use selfextend_eval::tasks::{Prompter, ablation, files, passkey};
use serde_json::{Value, json};
use std::path::PathBuf;

pub(super) fn perplexity(args: &PerplexityArgs) -> Result<()> {
    let mode = match args.text.stride {
        None => Mode::Single {
            segments: args.text.segments,
        },
        Some(stride) => Mode::Sliding {
            stride,
            windows: args.text.segments,
        },
    };
    let task = Perplexity::new(files(&args.files, "txt")?, args.text.lengths.clone(), mode);
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    run(Experiment {
        task: "perplexity",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&model)?,
        settings: json!({
            "files": names(&task.files),
            "lengths": task.lengths,
            "segments": args.text.segments,
            "stride": args.text.stride,
        }),
        methods: None,
        less: "shorter --lengths or fewer --segments",
    })
}

fn sweep(args: &SweepArgs) -> passkey::Sweep {
    let mut sweep = passkey::Sweep::new(args.lengths.clone());
    sweep.depths = args.depths.clone();
    sweep.trials = args.trials;
    sweep.digits = args.keys.digits.into();
    sweep.seed = args.keys.seed;
    sweep.wordings = args.wordings.clone();
    sweep
}

fn sweep_settings(args: &SweepArgs) -> Value {
    json!({
        "lengths": args.lengths,
        "depths": args.depths,
        "trials": args.trials,
        "digits": args.keys.digits,
        "seed": args.keys.seed,
        "chat": args.keys.chat,
        "wordings": args.wordings.iter().map(|wording| wording.name()).collect::<Vec<_>>(),
    })
}

pub(super) fn passkey(args: &PasskeyArgs) -> Result<()> {
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.sweep.keys.chat)?;
    run(Experiment {
        task: "passkey",
        args: &args.run,
        source: &source,
        model: &model,
        samples: sweep(&args.sweep).samples(&prompter)?,
        settings: sweep_settings(&args.sweep),
        methods: None,
        less: "shorter --lengths, fewer --depths or --trials 1",
    })
}

pub(super) fn leval(args: &LevalArgs) -> Result<()> {
    let mut task = LEval::new(files(&args.files, "jsonl")?);
    task.documents = args.documents;
    task.max_tokens = args.max_tokens;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    run(Experiment {
        task: "leval",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({
            "files": names(&task.files),
            "documents": task.documents,
            "max_tokens": task.max_tokens,
            "chat": args.chat,
        }),
        methods: None,
        less: "--documents 1 or fewer files",
    })
}

pub(super) fn longbench(args: &LongbenchArgs) -> Result<()> {
    let found = files(&args.files, "jsonl")?;
    let beside = |given: &Option<PathBuf>, name: &str| {
        given
            .clone()
            .unwrap_or_else(|| found[0].with_file_name(name))
    };
    let prompts = beside(&args.prompts, "dataset2prompt.json");
    let max_lengths = beside(&args.max_lengths, "dataset2maxlen.json");
    let mut task = LongBench::new(found, prompts, max_lengths);
    task.items = args.items;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    run(Experiment {
        task: "longbench",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({ "files": names(&task.files), "items": task.items, "chat": args.chat }),
        methods: None,
        less: "--items 5 or fewer files",
    })
}

pub(super) fn choice(args: &ChoiceArgs) -> Result<()> {
    let found = files(&args.files, "jsonl")?;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let trained = model.model.config().trained_window;
    let mut task = ChoiceTask::new(found, args.context.unwrap_or(trained));
    task.items = args.items;
    task.seed = args.seed;
    task.shots = args.shots;
    run(Experiment {
        task: "choice",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&model)?,
        settings: json!({
            "files": names(&task.files),
            "items": task.items,
            "seed": task.seed,
            "context": task.context,
            "shots": task.shots,
        }),
        methods: None,
        less: "--items 20 or fewer files",
    })
}

pub(super) fn ablation(args: &AblationArgs) -> Result<()> {
    if !args.run.methods.is_empty() {
        return Err(CliError::usage(
            "eval ablation runs a grid of its own: give --group-sizes and --neighbor-windows instead of --method",
        ));
    }
    let on = args.on.unwrap_or(if args.files.is_empty() {
        AblationOn::Passkey
    } else {
        AblationOn::Perplexity
    });
    let methods = ablation::methods(&args.group_sizes, &args.neighbor_windows)?;
    let mut settings = sweep_settings(&args.sweep);
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let (task, samples) = match on {
        AblationOn::Passkey => {
            let prompter = Prompter::new(&model, args.sweep.keys.chat)?;
            ("ablation-passkey", sweep(&args.sweep).samples(&prompter)?)
        }
        AblationOn::Perplexity => {
            let mode = Mode::Single {
                segments: args.segments,
            };
            let lengths = args.sweep.lengths.clone();
            let task = Perplexity::new(files(&args.files, "txt")?, lengths, mode);
            settings = json!({
                "files": names(&task.files),
                "lengths": task.lengths,
                "segments": args.segments,
            });
            ("ablation-perplexity", task.samples(&model)?)
        }
    };
    settings["group_sizes"] = json!(args.group_sizes);
    settings["neighbor_windows"] = json!(args.neighbor_windows);
    run(Experiment {
        task,
        args: &args.run,
        source: &source,
        model: &model,
        samples,
        settings,
        methods: Some(methods),
        less: "shorter --lengths, fewer --group-sizes or fewer --neighbor-windows",
    })
}
