//! The engines: how each is asked for a measurement, and how its answer is read.

use crate::args::GroupAndWindow;
use crate::error::{BenchError, Result};
use crate::peers::Llama;
use crate::process::{Finished, measure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The longest prompt with which llama-bench warms up, by running it once more. A first pass pages
/// in the weights; with longer prompts that cost is negligible, and a repetition doubles the time.
const WARM_UP_TO: usize = 4096;

/// The longest sequence of candle's quantized llama.
const CANDLE_LIMIT: usize = 4096;

/// An engine in one of its settings: a column of the tables.
#[derive(Debug, Clone, PartialEq)]
pub enum Series {
    /// selfextend.
    Ours {
        /// How keys and values are stored.
        kv_type: String,
        /// SelfExtend instead of plain attention.
        self_extend: Option<GroupAndWindow>,
    },
    /// llama.cpp.
    Llama {
        /// How keys and values are stored.
        kv_type: String,
        /// Flash attention.
        flash: bool,
    },
    /// candle-transformers.
    Candle,
}

impl Series {
    /// The heading of its column.
    pub fn name(&self) -> String {
        let stored = |kv_type: &str| match kv_type {
            "f16" => String::new(),
            other => format!(", {other} cache"),
        };
        match self {
            Self::Ours {
                kv_type,
                self_extend: None,
            } => format!("selfextend{}", stored(kv_type)),
            Self::Ours {
                kv_type,
                self_extend: Some(GroupAndWindow { group, window }),
            } => format!("SelfExtend {group},{window}{}", stored(kv_type)),
            Self::Llama { kv_type, flash } => {
                let flash = if *flash { "fa" } else { "no fa" };
                format!("llama.cpp, {flash}{}", stored(kv_type))
            }
            Self::Candle => "candle".to_owned(),
        }
    }

    /// Whether it is selfextend.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours { .. })
    }
}

/// What is measured of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Tokens read per second.
    Prefill,
    /// Tokens written per second after a prefill.
    Decode,
}

/// One child process: an engine at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The engine.
    pub series: Series,
    /// Tokens of the prefill.
    pub length: usize,
    /// What it measures.
    pub tasks: Vec<Task>,
}

/// What a child measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Tokens per second, for each task.
    pub tok_s: Vec<(Task, f64)>,
    /// The most memory it held.
    pub peak_mib: Option<f64>,
}

/// Where the engines are, and the settings that all of them share.
#[derive(Debug)]
pub struct Engines {
    /// selfextend's binary.
    pub selfextend: PathBuf,
    /// llama.cpp's programs.
    pub llama: Option<Llama>,
    /// The binary of `bench/candle`.
    pub candle: Option<PathBuf>,
    /// Threads of every engine.
    pub threads: usize,
    /// Tokens to decode.
    pub decode_tokens: usize,
    /// The time that one child may take.
    pub timeout: Duration,
}

impl Engines {
    /// The children that measure a series at a length. One child of selfextend measures both tasks;
    /// llama-bench would time prefill and decode together.
    pub fn jobs(&self, series: &Series, length: usize, tasks: &[Task]) -> Vec<Job> {
        let job = |tasks: &[Task]| Job {
            series: series.clone(),
            length,
            tasks: tasks.to_vec(),
        };
        match series {
            Series::Llama { .. } => tasks.iter().map(|&task| job(&[task])).collect(),
            Series::Candle if length + self.decode_tokens > CANDLE_LIMIT => Vec::new(),
            _ if tasks.is_empty() => Vec::new(),
            _ => vec![job(tasks)],
        }
    }

    /// Runs a job on a model file.
    pub fn run(&self, job: &Job, model: &Path) -> Result<Reading> {
        let Some(mut command) = self.command(job, model) else {
            return Err(BenchError::failure("this engine is not available"));
        };
        let finished = measure(&mut command, self.timeout)?;
        read(job, self.decode_tokens, &finished)
    }

    fn command(&self, job: &Job, model: &Path) -> Option<Command> {
        let threads = self.threads.to_string();
        let length = job.length.to_string();
        let decodes = job.tasks.contains(&Task::Decode);
        let decode = if decodes { self.decode_tokens } else { 0 }.to_string();
        let mut command;
        match &job.series {
            Series::Ours {
                kv_type,
                self_extend,
            } => {
                command = Command::new(&self.selfextend);
                command.args(["bench", "--json", "--model"]).arg(model);
                command.args(["--threads", &threads, "--kv-type", kv_type]);
                command.args(["--depths", &length, "--decode-tokens", &decode]);
                match self_extend {
                    None => command.arg("--plain"),
                    Some(GroupAndWindow { group, window }) => command
                        .args(["--group-size", &group.to_string()])
                        .args(["--neighbor-window", &window.to_string()]),
                };
            }
            Series::Llama { kv_type, flash } => {
                let flash = if *flash { "1" } else { "0" };
                command = Command::new(&self.llama.as_ref()?.bench);
                command.arg("-m").arg(model);
                command.args(["-o", "json", "-r", "1", "-t", &threads, "-fa", flash]);
                command.args(["-ctk", kv_type, "-ctv", kv_type]);
                match decodes {
                    true => command.args(["-p", "0", "-n", &decode, "-d", &length]),
                    false => command.args(["-p", &length, "-n", "0"]),
                };
                if !decodes && job.length > WARM_UP_TO {
                    command.arg("--no-warmup");
                }
            }
            Series::Candle => {
                command = Command::new(self.candle.as_ref()?);
                command.arg(model).args([&length, &decode]);
                command.env("RAYON_NUM_THREADS", &threads);
            }
        }
        Some(command)
    }
}

/// A line of `selfextend bench --json`, or of candle-bench.
#[derive(Deserialize)]
struct Rates {
    prefill_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
    peak_rss_mib: Option<f64>,
}

/// One of llama-bench's results.
#[derive(Deserialize)]
struct LlamaResult {
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    avg_ts: f64,
}

fn read(job: &Job, decode_tokens: usize, finished: &Finished) -> Result<Reading> {
    let parsed = match job.series {
        Series::Llama { .. } => parse_llama(&finished.stdout, job, decode_tokens)
            .map(|rate| (job.tasks.iter().map(|&task| (task, rate)).collect(), None)),
        _ => parse_rates(&finished.stdout, job),
    };
    let (tok_s, own_peak) = parsed.map_err(|reason| finished.unreadable(reason))?;
    Ok(Reading {
        tok_s,
        // The child's own peak includes what it held after the last poll.
        peak_mib: finished
            .peak_mib
            .into_iter()
            .chain(own_peak)
            .reduce(f64::max),
    })
}

type Rated = (Vec<(Task, f64)>, Option<f64>);

fn parse_rates(stdout: &str, job: &Job) -> Result<Rated, String> {
    let rates: Rates = serde_json::from_str(stdout.trim()).map_err(|error| error.to_string())?;
    let rate = |&task: &Task| {
        let rate = match task {
            Task::Prefill => rates.prefill_tok_s,
            Task::Decode => rates.decode_tok_s,
        };
        let rate = rate.filter(|rate| *rate > 0.0);
        rate.map(|rate| (task, rate))
            .ok_or_else(|| format!("no speed of {task:?}"))
    };
    let tok_s = job.tasks.iter().map(rate).collect::<Result<_, _>>()?;
    Ok((tok_s, rates.peak_rss_mib))
}

/// The speed of the one test a job of llama.cpp asked for.
fn parse_llama(stdout: &str, job: &Job, decode_tokens: usize) -> Result<f64, String> {
    let results: Vec<LlamaResult> =
        serde_json::from_str(stdout).map_err(|error| error.to_string())?;
    let wanted = if job.tasks.contains(&Task::Decode) {
        (0, decode_tokens, job.length)
    } else {
        (job.length, 0, 0)
    };
    let result = results
        .iter()
        .find(|it| (it.n_prompt, it.n_gen, it.n_depth) == wanted && it.avg_ts > 0.0);
    result.map(|it| it.avg_ts).ok_or_else(|| {
        format!(
            "no result for -p {} -n {} -d {}",
            wanted.0, wanted.1, wanted.2
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(length: usize, task: Task) -> Job {
        let kv_type = "f16".to_owned();
        Job {
            series: Series::Llama {
                kv_type,
                flash: true,
            },
            length,
            tasks: vec![task],
        }
    }

    fn ours(tasks: &[Task]) -> Job {
        let kv_type = "f16".to_owned();
        let self_extend = None;
        Job {
            series: Series::Ours {
                kv_type,
                self_extend,
            },
            length: 64,
            tasks: tasks.to_vec(),
        }
    }

    // As llama-bench of llama-cpp-python 0.3.36 wrote it, shortened.
    const LLAMA: &str = r#"[
      {"build_commit": "0c1e570", "n_threads": 2, "type_k": "f16", "flash_attn": 1,
       "n_prompt": 64, "n_gen": 0, "n_depth": 0, "avg_ns": 743803983, "avg_ts": 86.044175,
       "samples_ts": [ 86.0442 ]},
      {"build_commit": "0c1e570", "n_threads": 2, "type_k": "f16", "flash_attn": 1,
       "n_prompt": 0, "n_gen": 4, "n_depth": 64, "avg_ns": 12021005481, "avg_ts": 0.332751,
       "samples_ts": [ 0.332751 ]}
    ]"#;

    #[test]
    fn llama_bench_is_read_by_its_test() {
        let read = |length, task, tokens| parse_llama(LLAMA, &llama(length, task), tokens);
        assert_eq!(read(64, Task::Prefill, 4), Ok(86.044175));
        assert_eq!(read(64, Task::Decode, 4), Ok(0.332751));
        assert!(read(128, Task::Prefill, 4).is_err());
        assert!(read(64, Task::Decode, 8).is_err());
        assert!(parse_llama("ggml: no", &llama(64, Task::Prefill), 4).is_err());
    }

    #[test]
    fn our_lines_are_read() {
        let line = r#"{"depth":64,"prefill_tok_s":257.93,"decode_tok_s":null,
            "peak_rss_mib":136.5,"kv_type":"f16"}"#;
        let read = parse_rates(line, &ours(&[Task::Prefill]));
        assert_eq!(read, Ok((vec![(Task::Prefill, 257.93)], Some(136.5))));
        assert!(parse_rates(line, &ours(&[Task::Prefill, Task::Decode])).is_err());
        let candle = r#"{"prefill_tok_s":null,"decode_tok_s":9.5}"#;
        let read = parse_rates(candle, &ours(&[Task::Decode]));
        assert_eq!(read, Ok((vec![(Task::Decode, 9.5)], None)));
    }

    fn engines() -> Engines {
        Engines {
            selfextend: "selfextend".into(),
            llama: Some(Llama {
                bench: "llama-bench".into(),
                quantize: "llama-quantize".into(),
                version: String::new(),
            }),
            candle: Some("candle-bench".into()),
            threads: 2,
            decode_tokens: 32,
            timeout: Duration::from_secs(1),
        }
    }

    fn words(job: &Job) -> String {
        let command = engines().command(job, Path::new("m.gguf")).unwrap();
        crate::process::in_words(&command)
    }

    #[test]
    fn commands() {
        assert_eq!(
            words(&ours(&[Task::Decode])),
            "selfextend bench --json --model m.gguf --threads 2 --kv-type f16 --depths 64 \
             --decode-tokens 32 --plain"
        );
        let common = "llama-bench -m m.gguf -o json -r 1 -t 2 -fa 1 -ctk f16 -ctv f16";
        let decode = words(&llama(16384, Task::Decode));
        assert_eq!(decode, format!("{common} -p 0 -n 32 -d 16384"));
        let prefill = words(&llama(512, Task::Prefill));
        assert_eq!(prefill, format!("{common} -p 512 -n 0"));
        let long = words(&llama(8192, Task::Prefill));
        assert_eq!(long, format!("{common} -p 8192 -n 0 --no-warmup"));
    }

    #[test]
    fn one_child_of_ours_does_what_takes_llama_bench_two() {
        let both = [Task::Prefill, Task::Decode];
        let count = |series: &Series, length| engines().jobs(series, length, &both).len();
        assert_eq!(count(&ours(&[]).series, 64), 1);
        assert_eq!(count(&llama(64, Task::Prefill).series, 64), 2);
        assert_eq!(count(&Series::Candle, 4064), 1);
        assert_eq!(count(&Series::Candle, 4065), 0);
    }
}
