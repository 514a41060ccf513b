//! Measures selfextend against its peers and against the limits of the machine, in one command:
//!
//! ```console
//! $ cargo run --release -p selfextend-bench -- --prefill 512,4096 --decode 0,4096 --reps 5
//! ```
//!
//! Engines run as child processes, in turns, because the speed of a shared machine changes from
//! minute to minute: only what ran side by side can be compared. No test asserts a speed.

mod alone;
mod args;
mod client;
mod engines;
mod error;
mod machine;
mod note;
mod numbers;
mod peers;
mod pictures;
mod plan;
mod prepare;
mod process;
mod report;
mod results;
mod roofline;
mod series;
mod served;

use args::Args;
use clap::Parser;
use engines::Engines;
use error::{BenchError, Result};
use machine::{CpuTime, Machine, Memory};
use note::note;
use plan::{OWN, Plan};
use process::ask;
use results::{ModelResults, Results};
use roofline::ModelShape;
use series::{Series, Task};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(results) if results.failures.is_empty() => ExitCode::SUCCESS,
        Ok(results) => {
            note(&format!("{} measurements failed", results.failures.len()));
            ExitCode::FAILURE
        }
        Err(error) => {
            note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Results> {
    // The checkout in which this was compiled: it is the one that is measured.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root
        .canonicalize()
        .map_err(|error| BenchError::path("find", &root, error))?;
    let bench = root.join("target/bench");
    let out = args.out.clone().unwrap_or_else(|| bench.join("results"));
    let threads = args.threads as usize;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(BenchError::failure)?;

    let plan = Plan::of(args);
    let (engines, versions, absent) = prepare::prepare(args, &plan, &root, &bench)?;
    for absent in &absent {
        note(&format!("without {}: {}", absent.name, absent.reason));
    }
    let mut results = Results {
        machine: Machine::new(&root, threads),
        versions,
        absent,
        rounds: 0,
        decode_tokens: args.decode_tokens as usize,
        stolen: None,
        limits: Default::default(),
        alone: alone::plan(&plan.attention, args.self_extend),
        models: models(args, &plan, &engines, &bench)?,
        failures: Vec::new(),
    };
    let start = CpuTime::now();
    for round in 0..plan.reps {
        note(&format!("round {} of {}", round + 1, plan.reps));
        note("  limits of the machine, attention alone");
        let memory = Memory::new();
        results.limits.measure(&pool, &memory);
        for alone in &mut results.alone {
            alone.measure(&pool, &memory)?;
        }
        // The engines may need that memory.
        drop(memory);
        measure_all(&plan, &engines, &mut results, round);
        results.rounds = round + 1;
        let stolen = start.zip(CpuTime::now());
        results.stolen = stolen.map(|(start, now)| now.stolen_since(start));
        // After each round, so that an interrupted run leaves a report.
        report::write(&results, &out)?;
    }
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(report::markdown(&results).as_bytes());
    note(&format!("written to {}", out.display()));
    Ok(results)
}

/// Every model in every format, in one process and through the servers.
fn models(args: &Args, plan: &Plan, engines: &Engines, bench: &Path) -> Result<Vec<ModelResults>> {
    let columns = [plan.series(args, engines), plan.served(args, engines)];
    let mut models = Vec::new();
    for name in &plan.models {
        let own = PathBuf::from(name);
        let own = if own.is_file() {
            own
        } else {
            PathBuf::from(ask(Command::new(&engines.selfextend).args(["pull", name]))?)
        };
        for format in &plan.formats {
            let file = match &engines.llama {
                Some(llama) if format != OWN => llama.requantized(&own, format, bench)?,
                _ => own.clone(),
            };
            let mut command = Command::new(&engines.selfextend);
            let shape = ask(command.args(["inspect", "--json", "--model"]).arg(&file))?;
            let shape = ModelShape::parse(&shape)?;
            let columns = columns.iter().filter(|series| !series.is_empty());
            models.extend(columns.map(|series| ModelResults {
                format: format.clone(),
                file: file.clone(),
                shape: shape.clone(),
                served: matches!(series[0], Series::Served(_)),
                kv_type: args.kv_types[0].clone(),
                series: series.clone(),
                cells: Vec::new(),
            }));
        }
    }
    Ok(models)
}

/// One round: every engine at every length; what is compared runs in succession.
fn measure_all(plan: &Plan, engines: &Engines, results: &mut Results, round: usize) {
    let Results {
        models, failures, ..
    } = results;
    for model in models {
        let mut jobs = plan.jobs(&model.series);
        // The first to run finds a cooler processor, or caches that the one before has filled.
        if round % 2 == 1 {
            jobs.reverse();
        }
        for job in jobs
            .iter()
            .filter(|job| !model.is_hopeless(job))
            .collect::<Vec<_>>()
        {
            // The round keeps prompts apart that a server might remember.
            let reading = match &job.series {
                Series::Served(server) => served::run(engines, server, job, &model.file, round),
                _ => engines.run(job, &model.file),
            };
            let told = match &reading {
                Ok(reading) => {
                    let values = reading.values.iter();
                    let told = values.map(|(task, value)| match task {
                        Task::Load => format!("{task:?} {value:.2} s"),
                        _ => format!("{task:?} {value:.1} tok/s"),
                    });
                    told.collect::<Vec<_>>().join(", ")
                }
                Err(error) => error.to_string(),
            };
            let (file, name) = (model.title(), job.series.name());
            note(&format!("  {file}, {name}, {}: {told}", job.length));
            // A timeout is a result, and so is what a peer cannot: the tables say so.
            if matches!(&reading, Err(error) if error.is_failure()) {
                failures.push(told);
            }
            model.add(job, &reading);
        }
    }
}
