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
mod engines;
mod error;
mod machine;
mod note;
mod numbers;
mod peers;
mod pictures;
mod process;
mod report;
mod results;
mod roofline;

use args::Args;
use clap::Parser;
use engines::{Engines, Job, Series, Task};
use error::{BenchError, Result};
use machine::{CpuTime, Machine, Memory};
use note::note;
use peers::Llama;
use process::ask;
use results::{ModelResults, Results};
use roofline::ModelShape;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

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

    let engines = prepare(args, &root, &bench)?;
    let mut results = Results {
        machine: Machine::new(&root, threads),
        versions: versions(&engines)?,
        rounds: 0,
        decode_tokens: args.decode_tokens as usize,
        stolen: None,
        limits: Default::default(),
        alone: alone::plan(&args.attention.0, args.self_extend),
        models: models(args, &engines, &bench)?,
        failures: Vec::new(),
    };
    let start = CpuTime::now();
    for round in 0..args.reps as usize {
        note(&format!("round {} of {}", round + 1, args.reps));
        note("  limits of the machine, attention alone");
        let memory = Memory::new();
        results.limits.measure(&pool, &memory);
        for alone in &mut results.alone {
            alone.measure(&pool, &memory)?;
        }
        // The engines may need that memory.
        drop(memory);
        measure_all(args, &engines, &mut results, round);
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

fn prepare(args: &Args, root: &Path, bench: &Path) -> Result<Engines> {
    let selfextend = match &args.selfextend {
        Some(path) => path.clone(),
        None => peers::prepare_ours(root)?,
    };
    let llama = match &args.llama_dir {
        Some(folder) => Some(Llama::in_folder(folder)?),
        None if args.fa.0.is_empty() && args.formats.iter().all(|it| it == OWN) => None,
        None => Some(Llama::prepare(bench)?),
    };
    let candle = if args.candle {
        Some(peers::prepare_candle(root, bench)?)
    } else {
        None
    };
    Ok(Engines {
        selfextend,
        llama,
        candle,
        threads: args.threads as usize,
        decode_tokens: args.decode_tokens as usize,
        timeout: Duration::from_secs(args.timeout),
    })
}

fn versions(engines: &Engines) -> Result<Vec<String>> {
    let mut versions = vec![ask(Command::new(&engines.selfextend).arg("--version"))?];
    versions.extend(engines.llama.as_ref().map(|llama| llama.version.clone()));
    let lock = include_str!("../candle/Cargo.lock");
    let candle = engines
        .candle
        .as_ref()
        .and(locked(lock, "candle-transformers"));
    versions.extend(candle.map(|version| format!("candle-transformers {version}")));
    Ok(versions)
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let named = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != named);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}

/// The name of the file's own weight format.
const OWN: &str = "own";

fn models(args: &Args, engines: &Engines, bench: &Path) -> Result<Vec<ModelResults>> {
    let own = match &args.model {
        Some(path) => path.clone(),
        None => PathBuf::from(ask(Command::new(&engines.selfextend).arg("pull"))?),
    };
    let series = series(args);
    let model = |format: &String| {
        let file = match &engines.llama {
            Some(llama) if format != OWN => llama.requantized(&own, format, bench)?,
            _ => own.clone(),
        };
        let mut command = Command::new(&engines.selfextend);
        let shape = ask(command.args(["inspect", "--json", "--model"]).arg(&file))?;
        Ok(ModelResults {
            format: format.clone(),
            file,
            shape: ModelShape::parse(&shape)?,
            kv_type: args.kv_types[0].clone(),
            series: series.clone(),
            cells: Vec::new(),
        })
    };
    args.formats.iter().map(model).collect()
}

/// The columns of the tables: ours, then the peers.
fn series(args: &Args) -> Vec<Series> {
    let mut series = Vec::new();
    let modes = [None].into_iter().chain(args.self_extend.map(Some));
    for self_extend in modes {
        let ours = args.kv_types.iter().map(|kv_type| Series::Ours {
            kv_type: kv_type.clone(),
            self_extend,
        });
        series.extend(ours);
    }
    for kv_type in &args.llama_kv_types {
        // llama.cpp refuses quantised values without flash attention.
        let refused = !matches!(&**kv_type, "f32" | "f16" | "bf16");
        let modes = args.fa.0.iter().filter(|&&flash| flash || !refused);
        series.extend(modes.map(|&flash| Series::Llama {
            kv_type: kv_type.clone(),
            flash,
        }));
    }
    series.extend(args.candle.then_some(Series::Candle));
    series
}

/// One round: every engine at every length; what is compared runs in succession.
fn measure_all(args: &Args, engines: &Engines, results: &mut Results, round: usize) {
    let Results {
        models, failures, ..
    } = results;
    for model in models {
        let mut jobs = jobs(args, engines, &model.series);
        // The first to run finds a cooler processor, or caches that the one before has filled.
        if round % 2 == 1 {
            jobs.reverse();
        }
        for job in jobs
            .iter()
            .filter(|job| !model.is_hopeless(job))
            .collect::<Vec<_>>()
        {
            let reading = engines.run(job, &model.file);
            let told = match &reading {
                Ok(reading) => {
                    let rates = reading.tok_s.iter();
                    let rates = rates.map(|(task, rate)| format!("{task:?} {rate:.1} tok/s"));
                    rates.collect::<Vec<_>>().join(", ")
                }
                Err(error) => error.to_string(),
            };
            let name = job.series.name();
            note(&format!(
                "  {} {name}, {}: {told}",
                model.format, job.length
            ));
            // A timeout is a result: its cell of the table says so.
            if matches!(&reading, Err(error) if !matches!(error, BenchError::Timeout { .. })) {
                failures.push(told);
            }
            model.add(job, &reading);
        }
    }
}

fn jobs(args: &Args, engines: &Engines, series: &[Series]) -> Vec<Job> {
    let (prefill, decode) = (&args.prefill.0, &args.decode.0);
    let mut lengths: Vec<usize> = prefill.iter().chain(decode).copied().collect();
    lengths.sort_unstable();
    lengths.dedup();
    let mut jobs = Vec::new();
    for length in lengths {
        let mut tasks = Vec::new();
        if length > 0 && prefill.contains(&length) {
            tasks.push(Task::Prefill);
        }
        if decode.contains(&length) {
            tasks.push(Task::Decode);
        }
        let of_length = series
            .iter()
            .flat_map(|it| engines.jobs(it, length, &tasks));
        jobs.extend(of_length);
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantised_caches_of_llama_run_with_flash_attention_only() {
        let args = [
            "bench",
            "--llama-kv-types",
            "f16,q8_0",
            "--self-extend",
            "8,1024",
        ];
        let names: Vec<String> = series(&Args::parse_from(args))
            .iter()
            .map(Series::name)
            .collect();
        assert_eq!(
            names,
            [
                "selfextend",
                "SelfExtend 8,1024",
                "llama.cpp, no fa",
                "llama.cpp, fa",
                "llama.cpp, fa, q8_0 cache"
            ]
        );
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked(lock, "a"), Some("2.0.0"));
        assert_eq!(locked(lock, "b"), None);
    }
}
