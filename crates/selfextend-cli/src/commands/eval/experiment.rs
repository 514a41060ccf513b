//! Running an experiment: what it costs, its results file, its progress.

use super::show;
use crate::args::eval::EvalRunArgs;
use crate::error::{CliError, Result};
use crate::setup::{Found, Source};
use crate::{interrupt, output, progress};
use selfextend::profile::Profile;
use selfextend::{Method, TextModel};
use selfextend_eval::{
    Estimate, EvalError, Evaluation, Observer, Record, Report, RunFile, RunWriter, Sample,
};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A task of the command line, ready to run.
pub struct Experiment<'a> {
    pub task: &'static str,
    pub args: &'a EvalRunArgs,
    pub source: &'a Source,
    pub model: &'a TextModel,
    pub samples: Vec<Sample>,
    /// The task's own settings, which a resumed run must share.
    pub settings: Value,
    /// The methods, if the task chooses them and not the user.
    pub methods: Option<Vec<Method>>,
    /// The flags that make it shorter, for the message of a run that is too long.
    pub less: &'static str,
}

/// Runs what is missing from the results file, and shows all of it.
pub fn run(experiment: Experiment) -> Result<()> {
    let Experiment {
        task,
        args,
        source,
        model,
        samples,
        settings,
        methods,
        less,
    } = experiment;
    let allow_unreachable = methods.is_some();
    let methods = match methods {
        Some(methods) => methods,
        None if args.methods.is_empty() => {
            let methods = vec![Method::plain(), Method::automatic()];
            with_profile(methods, args, source, model, &samples)?
        }
        None => args.methods.clone(),
    };
    show::check(&args.show)?;
    let mut evaluation = Evaluation::new(model, methods, samples);
    evaluation.kv_type = source.kv_type();
    evaluation.chunk = source.chunk();
    evaluation.share = !args.no_sharing;
    evaluation.share_lengths = task != "compare";
    evaluation.allow_unreachable = allow_unreachable;
    evaluation.shard = args.shard;
    let fingerprint = selfextend::fingerprint(source.path()).map_err(|error| {
        let path = source.path().display();
        CliError::failure(format!("cannot read {path}: {error}"))
    })?;
    let header = evaluation.header(task, &fingerprint, all_settings(source, settings));
    if args.dry_run {
        output::note(&in_words(&evaluation.estimate(&[])?));
        return Ok(());
    }
    let default = PathBuf::from(format!("eval-{task}.jsonl"));
    let path = args.results.as_ref().unwrap_or(&default);
    let open = || RunWriter::open(path, &header).map_err(with_ways_out);
    // A file that does not exist yet is created only when the run may start.
    let existing = if path.exists() { Some(open()?) } else { None };
    let done = existing.as_ref().map_or(&[][..], |(_, records)| records);
    let estimate = evaluation.estimate(done)?;
    output::note(&in_words(&estimate));
    args.limit.check(estimate.seconds, less)?;
    let (mut writer, mut records) = match existing {
        Some(existing) => existing,
        None => open()?,
    };
    let done = records.clone();
    let ended = {
        let _scope = interrupt::scope(interrupt::Mode::Ask);
        let mut shown = Shown { task, bar: None };
        evaluation.run(&done, &mut shown, &mut |record: &Record| {
            records.push(record.clone());
            writer.append(record)
        })
    };
    if let Err(error) = ended {
        output::note(&format!(
            "{} results are kept in {}; the same command resumes the run",
            records.len(),
            path.display()
        ));
        return Err(error.into());
    }
    output::note(&format!("results: {}", path.display()));
    show::show(&Report::new(&RunFile::new(header, records)), &args.show)
}

/// Adds what to do about a results file of another run.
fn with_ways_out(error: EvalError) -> CliError {
    match error {
        EvalError::OtherRun { path, difference } => CliError::failure(format!(
            "{} holds the results of another run, with other samples or settings ({difference}): \
             write these elsewhere with --results OTHER.jsonl, or delete it",
            path.display()
        )),
        other => other.into(),
    }
}

/// The methods and that of a profile: the one named, which must reach every sample, or the one
/// beside the model, which is left out if it does not.
pub fn with_profile(
    mut methods: Vec<Method>,
    args: &EvalRunArgs,
    source: &Source,
    model: &TextModel,
    samples: &[Sample],
) -> Result<Vec<Method>> {
    let trained = model.model.config().trained_window;
    let reaches = |method: &Method| {
        let mut contexts = samples.iter().map(|sample| sample.context);
        contexts.all(|context| method.resolve(trained, context).is_ok())
    };
    let method = if let Some(path) = &args.load.profile {
        Profile::load_for(path, source.path())?.1
    } else if args.load.no_profile {
        return Ok(methods);
    } else if let Some(found) = Found::beside(source.path())? {
        if !reaches(&found.method) {
            found.say(", which does not reach every sample and is ignored");
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

/// The name of a file, without its folder.
pub fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The names of files, without their folders.
pub fn names(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|path| name(path)).collect()
}

/// The task's settings, and those of the model that change results.
fn all_settings(source: &Source, settings: Value) -> Map<String, Value> {
    let name = Path::new(&source.name).file_name().unwrap_or_default();
    let common = json!({
        "model_name": name.to_string_lossy(),
        "linear": source.linear_name(),
    });
    let mut all = common.as_object().cloned().unwrap_or_default();
    // Without its number: shards may run on several devices of one machine.
    if source.device().is_some() {
        all.insert("device".into(), "cuda".into());
    }
    if source.keeps_sliding_window() {
        all.insert("sliding_window".into(), "keep".into());
    }
    all.extend(settings.as_object().cloned().unwrap_or_default());
    all
}

/// The cost of a run, for people.
fn in_words(estimate: &Estimate) -> String {
    let left = estimate.results - estimate.done;
    let resumed = match estimate.done {
        0 => String::new(),
        done => format!(" ({done} of {} exist)", estimate.results),
    };
    let saved = match estimate.tokens_unshared - estimate.tokens {
        0 => String::new(),
        saved => format!(" ({} shared)", output::grouped(saved)),
    };
    format!(
        "{left} results to compute{resumed}: {} tokens to prefill{saved}, at most {} to generate, about {}",
        output::grouped(estimate.tokens),
        output::grouped(estimate.answer_tokens),
        output::duration(estimate.seconds),
    )
}

/// Shows a run on the terminal.
struct Shown {
    task: &'static str,
    bar: Option<progress::Work>,
}

impl Observer for Shown {
    fn begin(&mut self, estimate: &Estimate) {
        self.bar = Some(progress::Work::new(self.task, estimate.operations));
    }

    fn sample(&mut self, id: &str, method: &str) {
        if let Some(bar) = &self.bar {
            bar.label(&format!("{} {method} {id}", self.task));
        }
    }

    fn progress(&mut self, operations: f64) {
        if let Some(bar) = &self.bar {
            bar.at(operations);
        }
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}
