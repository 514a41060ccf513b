//! `selfextend eval`: the paper's experiments. Parses and prints; the work is selfextend-eval's.

mod compare;
mod tasks;

pub use compare::compare;

use crate::args::eval::{
    EvalArgs, EvalModelArgs, EvalRunArgs, EvalTask, MergeArgs, ReportArgs, ShowArgs,
};
use crate::args::{KvArg, LinearArg};
use crate::error::{CliError, Result};
use crate::{engine, interrupt, output, progress};
use selfextend::profile::Profile;
use selfextend::{Device, LoadOptions, Method, TextModel};
use selfextend_eval::report::{Drawing, Table, to_html, to_png, to_svg};
use selfextend_eval::{Estimate, Evaluation, Observer, Report, RunFile, RunWriter, Sample};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Runs a task, or shows results.
pub fn eval(args: &EvalArgs) -> Result<()> {
    match &args.task {
        EvalTask::Merge(args) => merge(args),
        EvalTask::Report(args) => report(args),
        EvalTask::Perplexity(args) => tasks::perplexity(args),
        EvalTask::Passkey(args) => tasks::passkey(args),
        EvalTask::Needle(args) => tasks::needle(args),
        EvalTask::Ruler(args) => tasks::ruler(args),
        EvalTask::Leval(args) => tasks::leval(args),
        EvalTask::Longbench(args) => tasks::longbench(args),
        EvalTask::Choice(args) => tasks::choice(args),
        EvalTask::Ablation(args) => tasks::ablation(args),
    }
}

/// A task of the command line, ready to run.
struct Prepared<'a> {
    task: &'static str,
    args: &'a EvalRunArgs,
    model: &'a TextModel,
    samples: Vec<Sample>,
    /// The task's own settings, which a resumed run must share.
    settings: Value,
    /// The methods, where the task and not the user chooses them.
    methods: Option<Vec<Method>>,
}

fn load(args: &EvalModelArgs) -> Result<TextModel> {
    let path = engine::fetch(&args.model)?;
    let options = LoadOptions {
        threads: args.threads,
        exact: args.linear == LinearArg::F32,
        device: args.device,
        ..LoadOptions::default()
    };
    Ok(TextModel::load(&path, options)?)
}

/// Runs what is not there yet, and shows the whole.
fn run(prepared: Prepared) -> Result<()> {
    let Prepared {
        task,
        args,
        model,
        samples,
        settings,
        methods,
    } = prepared;
    let allow_unreachable = methods.is_some();
    let methods = match methods {
        Some(methods) => methods,
        None if args.methods.is_empty() => {
            let methods = vec![Method::plain(), Method::automatic()];
            with_profile(methods, args, model, &samples)?
        }
        None => args.methods.clone(),
    };
    check_plot(&args.show)?;
    let mut evaluation = Evaluation::new(model, methods, samples);
    evaluation.kv_type = args.model.kv_type.into();
    evaluation.chunk = args.model.chunk;
    evaluation.share = !args.no_sharing;
    evaluation.share_lengths = task != "compare";
    evaluation.allow_unreachable = allow_unreachable;
    evaluation.shard = args.shard;
    let header = evaluation.header(task, all_settings(&args.model, model, settings)?);
    if args.dry_run {
        output::note(&in_words(&evaluation.estimate(&[])?));
        return Ok(());
    }
    let default = PathBuf::from(format!("eval-{task}.jsonl"));
    let path = args.results.as_ref().unwrap_or(&default);
    evaluation.check()?;
    let (mut writer, mut records) = RunWriter::open(path, &header)?;
    let done = records.clone();
    let ended = {
        let _scope = interrupt::scope(interrupt::Mode::Ask);
        let mut shown = Shown { task, bar: None };
        evaluation.run(&done, &mut shown, &mut |record| {
            records.push(record.clone());
            writer.append(record)
        })
    };
    if let Err(error) = ended {
        let kept = records.len();
        output::note(&format!(
            "{kept} results are kept in {}; the same command goes on there",
            path.display()
        ));
        return Err(error.into());
    }
    output::note(&format!("results: {}", path.display()));
    show(&RunFile::new(header, records), &args.show)
}

/// The methods and that of a profile: the one named, which must reach every sample, or the one
/// beside the model, which is left out where it does not.
fn with_profile(
    mut methods: Vec<Method>,
    args: &EvalRunArgs,
    model: &TextModel,
    samples: &[Sample],
) -> Result<Vec<Method>> {
    let trained = model.model.config().trained_window;
    let reaches = |method: &Method| {
        let mut contexts = samples.iter().map(|sample| sample.context);
        contexts.all(|context| method.options(trained, context).is_ok())
    };
    let EvalModelArgs {
        model, no_profile, ..
    } = &args.model;
    let method = if let Some(path) = &args.model.profile {
        Profile::load_for(path, &engine::fetch(model)?)?.1
    } else if let Some(found) = engine::Found::beside(model, *no_profile)? {
        if !reaches(&found.method) {
            found.say(", which does not reach every sample and is left alone");
            return Ok(methods);
        }
        found.say(", which runs too");
        found.method
    } else {
        return Ok(methods);
    };
    if !methods.contains(&method) {
        methods.push(method);
    }
    Ok(methods)
}

/// The task's settings, and those of the model that change results.
fn all_settings(
    args: &EvalModelArgs,
    model: &TextModel,
    settings: Value,
) -> Result<Map<String, Value>> {
    let bytes = std::fs::metadata(engine::fetch(&args.model)?).map(|file| file.len());
    let common = json!({
        "model": Path::new(&args.model).file_name().unwrap_or_default().to_string_lossy(),
        "model_bytes": bytes.unwrap_or_default(),
        "trained_window": model.model.config().trained_window,
        "kv_type": match args.kv_type { KvArg::F32 => "f32", KvArg::F16 => "f16", KvArg::Q8 => "q8_0" },
        "linear": match args.linear { LinearArg::Auto => "auto", LinearArg::F32 => "f32" },
        "chunk": args.chunk,
    });
    let mut all = common.as_object().cloned().unwrap_or_default();
    // Not its number: shards may run on several of the same machine.
    if let Device::Cuda(_) = args.device {
        all.insert("device".into(), "cuda".into());
    }
    all.extend(settings.as_object().cloned().unwrap_or_default());
    Ok(all)
}

/// An estimate for people.
fn in_words(estimate: &Estimate) -> String {
    let left = estimate.results - estimate.done;
    let resumed = match estimate.done {
        0 => String::new(),
        done => format!(" ({done} of {} are there)", estimate.results),
    };
    let saved = match estimate.tokens_unshared - estimate.tokens {
        0 => String::new(),
        saved => format!(" ({} shared)", output::grouped(saved)),
    };
    format!(
        "{left} results to compute{resumed}: {} tokens to prefill{saved}, {} to generate at most, about {}",
        output::grouped(estimate.tokens),
        output::grouped(estimate.answer_tokens),
        duration(estimate.seconds),
    )
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Shows a run on the terminal.
struct Shown {
    task: &'static str,
    bar: Option<progress::Work>,
}

impl Observer for Shown {
    fn begin(&mut self, estimate: &Estimate) {
        output::note(&in_words(estimate));
        self.bar = Some(progress::Work::new(self.task, estimate.operations));
    }

    fn sample(&mut self, id: &str, method: &str) {
        if let Some(bar) = &self.bar {
            bar.label(&format!("{} {method} {id}", self.task));
        }
    }

    fn progress(&mut self, work: f64) {
        if let Some(bar) = &self.bar {
            bar.at(work);
        }
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}

fn merge(args: &MergeArgs) -> Result<()> {
    check_plot(&args.show)?;
    let run = RunFile::merge(&args.files)?;
    output::file(&args.output, &run.to_json_lines()?)?;
    output::note(&format!("results: {}", args.output.display()));
    show(&run, &args.show)
}

fn report(args: &ReportArgs) -> Result<()> {
    check_plot(&args.show)?;
    show(&RunFile::read(&args.results)?, &args.show)
}

/// What can be wrong with --plot is said before anything runs.
fn check_plot(args: &ShowArgs) -> Result<()> {
    let Some(path) = &args.plot else {
        return Ok(());
    };
    match extension(path) {
        Some("svg" | "png") => Ok(()),
        _ => Err(CliError::usage(format!(
            "--plot {}: the file must end in .svg or .png",
            path.display()
        ))),
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

fn show(run: &RunFile, args: &ShowArgs) -> Result<()> {
    let report = Report::new(run);
    if let Some(path) = &args.csv {
        output::file(path, &report.to_csv())?;
    }
    if let Some(path) = &args.html {
        output::file(path, &to_html(&report)?)?;
    }
    if let Some(path) = &args.plot {
        plot(path, &chosen(&report, args)?)?;
    }
    match args.json {
        true => output::json(&in_json(&report)),
        false => output::text(&report.to_text()),
    }
}

fn chosen(report: &Report, args: &ShowArgs) -> Result<Drawing> {
    let names = || -> String {
        let names: Vec<_> = report.figures.iter().map(|figure| &*figure.name).collect();
        names.join(", ")
    };
    let mut figures = report.figures.iter();
    let found = match &args.figure {
        Some(name) => figures.find(|figure| figure.name == *name),
        None => figures.next(),
    };
    found.map(|figure| figure.drawing.clone()).ok_or_else(|| {
        CliError::usage(format!(
            "there is no such picture; these results have: {}",
            names()
        ))
    })
}

fn plot(path: &Path, drawing: &Drawing) -> Result<()> {
    match extension(path) {
        Some("png") => output::bytes(path, &to_png(drawing)?),
        _ => output::file(path, &to_svg(drawing)?),
    }
}

/// The tables, as objects by the names of their columns.
fn in_json(report: &Report) -> Value {
    let cell = |text: &String| {
        text.parse::<f64>()
            .map_or(json!(text), |number| json!(number))
    };
    let rows = |table: &Table| -> Vec<Value> {
        let row = |row: &Vec<String>| -> Value {
            let cells = table.columns.iter().cloned().zip(row.iter().map(cell));
            Value::Object(cells.collect())
        };
        table.rows.iter().map(row).collect()
    };
    let settings: Map<String, Value> = report
        .settings
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let tables: Vec<Value> = report
        .tables
        .iter()
        .map(|table| json!(rows(table)))
        .collect();
    json!({ "title": report.title, "settings": settings, "tables": tables })
}
