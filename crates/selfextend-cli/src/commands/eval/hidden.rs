//! From arguments to samples, for tasks that hide something in a text.

use super::experiment::{Experiment, name, names, run};
use crate::args::eval::{BabilongArgs, NeedleArgs, NolimaArgs, RulerArgs};
use crate::error::{CliError, Result};
use crate::setup::Source;
use selfextend_eval::tasks::babilong::BabiLong;
use selfextend_eval::tasks::needle::{self, Fact, Needles};
use selfextend_eval::tasks::nolima::NoLiMa;
use selfextend_eval::tasks::ruler::{Ruler, RulerData, RulerTask};
use selfextend_eval::tasks::{Prompter, files};
use serde_json::json;

pub(super) fn needle(args: &NeedleArgs) -> Result<()> {
    let haystack = files(&args.haystack, "txt")?;
    let mut task = needle::Needle::new(haystack, args.lengths.clone());
    task.needles = needles(args);
    task.depths = args.depths.clone();
    task.max_tokens = args.max_tokens;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    run(Experiment {
        task: "needle",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({
            "haystack": names(&task.haystack),
            "needle": args.needle,
            "question": args.question,
            "answer": args.answer,
            "needles": args.needles,
            "seed": args.seed,
            "lengths": task.lengths,
            "depths": task.depths,
            "max_tokens": task.max_tokens,
            "chat": args.chat,
        }),
        methods: None,
        less: "shorter --lengths, --needles 1 or fewer --depths",
    })
}

fn needles(args: &NeedleArgs) -> Needles {
    match (&args.needle, &args.question, &args.answer) {
        (Some(needle), Some(question), Some(answer)) => Needles::Given(vec![Fact {
            needle: needle.clone(),
            questions: vec![question.clone()],
            answer: answer.clone(),
        }]),
        _ => Needles::Drawn {
            count: args.needles,
            seed: args.seed,
        },
    }
}

pub(super) fn ruler(args: &RulerArgs) -> Result<()> {
    let essays = if args.essays.is_empty() {
        Vec::new()
    } else {
        files(&args.essays, "txt")?
    };
    let mut task = Ruler::new(args.tasks.clone(), args.lengths.clone());
    task.samples = args.samples;
    task.seed = args.seed;
    task.essays = essays;
    task.squad = args.squad.clone();
    task.hotpot = args.hotpotqa.clone();
    if args.tasks.is_empty() {
        let all = RulerTask::ALL.map(|(_, task)| task).into_iter();
        task.tasks = all
            .filter(|it| it.needs().is_none_or(|data| task.has(data)))
            .collect();
    }
    check_ruler(&task)?;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    let names_of_tasks: Vec<_> = task.tasks.iter().map(|task| task.name()).collect();
    let mut settings = json!({
        "tasks": names_of_tasks,
        "lengths": task.lengths,
        "samples_each": task.samples,
        "seed": task.seed,
        "essays": names(&task.essays),
        "chat": args.chat,
    });
    for (key, path) in [("squad", &task.squad), ("hotpotqa", &task.hotpot)] {
        if let Some(path) = path {
            settings[key] = json!(name(path));
        }
    }
    run(Experiment {
        task: "ruler",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings,
        methods: None,
        less: "shorter --lengths, --samples 1 or fewer --tasks",
    })
}

/// Refuses a task whose files are not named, and files that no task reads.
fn check_ruler(ruler: &Ruler) -> Result<()> {
    let flags = [
        (RulerData::Essays, "--essays"),
        (RulerData::Squad, "--squad"),
        (RulerData::Hotpot, "--hotpotqa"),
    ];
    for (data, flag) in flags {
        let mut tasks = ruler.tasks.iter();
        let task = tasks.find(|task| task.needs() == Some(data));
        match task {
            Some(task) if !ruler.has(data) => {
                return Err(CliError::usage(format!(
                    "{} {} with {flag}, or leave it out",
                    task.name(),
                    data.reason()
                )));
            }
            None if ruler.has(data) => {
                return Err(CliError::usage(format!(
                    "{flag}: none of the --tasks reads it"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn babilong(args: &BabilongArgs) -> Result<()> {
    let books = files(&args.books, "txt")?;
    let mut task = BabiLong::new(args.facts.clone(), books, args.lengths.clone());
    task.tasks = args.tasks.clone();
    task.samples = args.samples;
    task.seed = args.seed;
    task.max_tokens = args.max_tokens;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    let names_of_tasks: Vec<_> = task.tasks.iter().map(|task| task.name()).collect();
    run(Experiment {
        task: "babilong",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({
            "tasks": names_of_tasks,
            "facts": names(&task.facts),
            "books": names(&task.books),
            "lengths": task.lengths,
            "samples_each": task.samples,
            "seed": task.seed,
            "max_tokens": task.max_tokens,
            "chat": args.chat,
        }),
        methods: None,
        less: "shorter --lengths, --samples 5 or fewer --tasks",
    })
}

pub(super) fn nolima(args: &NolimaArgs) -> Result<()> {
    let books = files(&args.books, "txt")?;
    let mut task = NoLiMa::new(args.needles.clone(), books, args.lengths.clone());
    task.depths = args.depths.clone();
    task.questions = args.questions;
    task.seed = args.seed;
    task.metric = args.metric;
    task.max_tokens = args.max_tokens;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    run(Experiment {
        task: "nolima",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({
            "needles": name(&task.needles),
            "books": names(&task.books),
            "lengths": task.lengths,
            "depths": task.depths,
            "questions": task.questions,
            "seed": task.seed,
            "metric": task.metric.name(),
            "max_tokens": task.max_tokens,
            "chat": args.chat,
        }),
        methods: None,
        less: "shorter --lengths, fewer --depths or --questions 5",
    })
}
