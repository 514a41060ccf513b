//! From arguments to samples, for tasks whose texts are made from a seed.

use super::experiment::{Experiment, names, run};
use crate::args::eval::{GraphwalksArgs, MrcrArgs};
use crate::error::Result;
use crate::setup::Source;
use selfextend_eval::tasks::graph_walks::GraphWalks;
use selfextend_eval::tasks::mrcr::Mrcr;
use selfextend_eval::tasks::{Prompter, files};
use serde_json::json;

pub(super) fn graph_walks(args: &GraphwalksArgs) -> Result<()> {
    let mut task = GraphWalks::new(args.lengths.clone());
    task.tasks = args.tasks.clone();
    task.samples = args.samples;
    task.seed = args.seed;
    task.max_tokens = args.max_tokens;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    let names_of_tasks: Vec<_> = task.tasks.iter().map(|task| task.name()).collect();
    run(Experiment {
        task: "graphwalks",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({
            "tasks": names_of_tasks,
            "lengths": task.lengths,
            "samples_each": task.samples,
            "seed": task.seed,
            "max_tokens": task.max_tokens,
            "chat": args.chat,
        }),
        methods: None,
        less: "shorter --lengths or --samples 2",
    })
}

pub(super) fn mrcr(args: &MrcrArgs) -> Result<()> {
    let books = files(&args.books, "txt")?;
    let mut task = Mrcr::new(books, args.lengths.clone());
    task.needles = args.needles.clone();
    task.samples = args.samples;
    task.seed = args.seed;
    let source = Source::new(&args.run.load)?;
    let model = source.load()?;
    let prompter = Prompter::new(&model, args.chat)?;
    run(Experiment {
        task: "mrcr",
        args: &args.run,
        source: &source,
        model: &model,
        samples: task.samples(&prompter)?,
        settings: json!({
            "books": names(&task.books),
            "needles": task.needles,
            "lengths": task.lengths,
            "samples_each": task.samples,
            "seed": task.seed,
            "chat": args.chat,
        }),
        methods: None,
        less: "shorter --lengths or --samples 2",
    })
}
