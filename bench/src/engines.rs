//! The engines: how each is asked for a measurement, and how its answer is read.

use crate::args::GroupAndWindow;
use crate::error::{BenchError, Result};
use crate::peers::{Llama, mistral_script};
use crate::process::{Finished, measure};
use crate::series::{Fork, Job, Reading, Series, Task};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The longest prompt with which llama-bench warms up, by running it once more. A first pass pages
/// in the weights; with longer prompts that cost is negligible, and a repetition doubles the time.
const WARM_UP_TO: usize = 4096;

/// Where the engines are, and the settings that all of them share.
#[derive(Debug)]
pub struct Engines {
    /// selfextend's binary.
    pub selfextend: PathBuf,
    /// llama.cpp's programs.
    pub llama: Option<Llama>,
    /// ik_llama.cpp's programs.
    pub ik_llama: Option<Llama>,
    /// A Python with the package `mistralrs`.
    pub mistral: Option<PathBuf>,
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
    /// llama.cpp's programs, or those of a fork.
    pub fn fork(&self, fork: Fork) -> Option<&Llama> {
        match fork {
            Fork::Original => self.llama.as_ref(),
            Fork::Ik => self.ik_llama.as_ref(),
        }
    }

    /// Runs a job of an engine that is no server on a model file.
    pub fn run(&self, job: &Job, model: &Path) -> Result<Reading> {
        let Some(mut command) = self.command(job, model) else {
            return Err(BenchError::failure("this engine is not available"));
        };
        let finished = measure(&mut command, self.timeout)?;
        read(job, self.decode_tokens, &finished)
    }

    fn command(&self, job: &Job, model: &Path) -> Option<Command> {
        // A load is seen through the answer to one token.
        let length = if job.wants(Task::Load) { 1 } else { job.length };
        let decode = if job.wants(Task::Decode) {
            self.decode_tokens
        } else {
            0
        };
        let (threads, decode) = (self.threads.to_string(), decode.to_string());
        match &job.series {
            Series::Ours {
                kv_type,
                self_extend,
            } => {
                let mut command = Command::new(&self.selfextend);
                command.args(["bench", "--json", "--model"]).arg(model);
                command.args(["--threads", &threads, "--kv-type", kv_type]);
                command.args(["--depths", &length.to_string()]);
                command.args(["--decode-tokens", &decode]);
                match self_extend {
                    None => command.arg("--plain"),
                    Some(GroupAndWindow { group, window }) => command
                        .args(["--group-size", &group.to_string()])
                        .args(["--neighbor-window", &window.to_string()]),
                };
                Some(command)
            }
            Series::Llama {
                fork,
                kv_type,
                flash,
            } => {
                let mut command = Command::new(&self.fork(*fork)?.bench);
                command.arg("-m").arg(model);
                command.args(["-o", "json", "-r", "1", "-t", &threads]);
                command.args(["-fa", if *flash { "1" } else { "0" }]);
                command.args(["-ctk", kv_type, "-ctv", kv_type]);
                let cold = !job.wants(Task::Decode) && length > WARM_UP_TO || job.wants(Task::Load);
                command.args(llama_test(*fork, job, length, &decode, cold));
                Some(command)
            }
            Series::Mistral => {
                let mut command = Command::new(self.mistral.as_ref()?);
                command.arg(mistral_script()).arg(model);
                command.args([&length.to_string(), &decode]);
                command.env("RAYON_NUM_THREADS", &threads);
                Some(command)
            }
            Series::Candle => {
                let mut command = Command::new(self.candle.as_ref()?);
                command.arg(model).args([&length.to_string(), &decode]);
                command.env("RAYON_NUM_THREADS", &threads);
                Some(command)
            }
            Series::Served(_) => None,
        }
    }
}

/// The test that a llama-bench shall run. That of ik_llama.cpp has `-gp PROMPT,TOKENS` for a decode
/// at a depth, and rearranges weights as it likes them best only where it is told to.
fn llama_test(fork: Fork, job: &Job, length: usize, decode: &str, cold: bool) -> Vec<String> {
    let length = length.to_string();
    let test = match (job.wants(Task::Decode), fork) {
        (false, _) => vec!["-p", &length, "-n", "0"],
        (true, Fork::Original) => vec!["-p", "0", "-n", decode, "-d", &length],
        (true, Fork::Ik) if job.length == 0 => vec!["-p", "0", "-n", decode],
        (true, Fork::Ik) => vec!["-p", "0", "-n", "0", "-gp"],
    };
    let mut words: Vec<String> = test.into_iter().map(str::to_owned).collect();
    if words.last().is_some_and(|word| word == "-gp") {
        words.push(format!("{length},{decode}"));
    }
    if fork == Fork::Ik {
        words.extend(["-rtr", "1"].map(str::to_owned));
    }
    match fork {
        _ if !cold => {}
        Fork::Original => words.push("--no-warmup".to_owned()),
        Fork::Ik => words.extend(["-w", "0"].map(str::to_owned)),
    }
    words
}

/// A line of `selfextend bench --json`, of candle-bench or of bench/mistral.
#[derive(Deserialize)]
struct Rates {
    prefill_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
    peak_rss_mib: Option<f64>,
    /// Why a peer does not do this.
    cannot: Option<String>,
}

/// One of llama-bench's results.
#[derive(Deserialize)]
struct LlamaResult {
    n_prompt: usize,
    n_gen: usize,
    /// Not in that of ik_llama.cpp, whose tests have names instead.
    n_depth: Option<usize>,
    test: Option<String>,
    avg_ts: f64,
}

fn read(job: &Job, decode_tokens: usize, finished: &Finished) -> Result<Reading> {
    let parsed = match job.series {
        Series::Llama { .. } => parse_llama(&finished.stdout, job, decode_tokens)
            .map(|rate| (job.tasks.iter().map(|&task| (task, rate)).collect(), None)),
        _ => {
            let rates = parse_rates(&finished.stdout);
            if let Ok(Rates {
                cannot: Some(reason),
                ..
            }) = rates
            {
                return Err(BenchError::Cannot(reason));
            }
            rates.and_then(|rates| rated(&rates, job))
        }
    };
    let (mut values, own_peak) = parsed.map_err(|reason| finished.unreadable(reason))?;
    for (task, value) in &mut values {
        if *task == Task::Load {
            *value = finished.seconds;
        }
    }
    Ok(Reading {
        values,
        // The child's own peak includes what it held after the last poll.
        peak_mib: finished
            .peak_mib
            .into_iter()
            .chain(own_peak)
            .reduce(f64::max),
    })
}

type Rated = (Vec<(Task, f64)>, Option<f64>);

fn parse_rates(stdout: &str) -> Result<Rates, String> {
    // mistral.rs writes its log there too, before.
    let line = stdout.trim().lines().last().unwrap_or_default();
    let whole = serde_json::from_str(stdout.trim());
    whole
        .or_else(|_| serde_json::from_str(line))
        .map_err(|error| error.to_string())
}

fn rated(rates: &Rates, job: &Job) -> Result<Rated, String> {
    let rate = |&task: &Task| {
        let rate = match task {
            Task::Prefill | Task::Load => rates.prefill_tok_s,
            Task::Decode => rates.decode_tok_s,
        };
        let rate = rate.filter(|rate| *rate > 0.0);
        rate.map(|rate| (task, rate))
            .ok_or_else(|| format!("no speed of {task:?}"))
    };
    let values = job.tasks.iter().map(rate).collect::<Result<_, _>>()?;
    Ok((values, rates.peak_rss_mib))
}

/// The speed of the one test a job of llama.cpp asked for.
fn parse_llama(stdout: &str, job: &Job, decode_tokens: usize) -> Result<f64, String> {
    let results: Vec<LlamaResult> =
        serde_json::from_str(stdout).map_err(|error| error.to_string())?;
    let length = if job.wants(Task::Load) { 1 } else { job.length };
    let is_wanted = |it: &&LlamaResult| {
        let tokens = (it.n_prompt, it.n_gen, it.n_depth.unwrap_or(0));
        let named = format!("tg{decode_tokens}@pp{length}");
        match job.wants(Task::Decode) {
            false => tokens == (length, 0, 0),
            true if tokens == (0, decode_tokens, length) => true,
            // "pp64+tg4" has the same numbers, but counts the tokens of both.
            true => {
                tokens == (length, decode_tokens, 0)
                    && it.test.as_deref().is_some_and(|test| test == named)
            }
        }
    };
    let result = results.iter().find(|it| is_wanted(it) && it.avg_ts > 0.0);
    result
        .map(|it| it.avg_ts)
        .ok_or_else(|| format!("no result for {:?} at {length} tokens", job.tasks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama_of(fork: Fork, length: usize, task: Task) -> Job {
        let kv_type = "f16".to_owned();
        let series = Series::Llama {
            fork,
            kv_type,
            flash: true,
        };
        job(series, length, &[task])
    }

    fn llama(length: usize, task: Task) -> Job {
        llama_of(Fork::Original, length, task)
    }

    fn job(series: Series, length: usize, tasks: &[Task]) -> Job {
        Job {
            series,
            length,
            tasks: tasks.to_vec(),
        }
    }

    fn ours(tasks: &[Task]) -> Job {
        let kv_type = "f16".to_owned();
        let series = Series::Ours {
            kv_type,
            self_extend: None,
        };
        job(series, 64, tasks)
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

    // In the form of ik_llama.cpp's llama-bench (commit 0115ace), shortened.
    const IK_LLAMA: &str = r#"[
      {"build_commit": "0115ace2", "n_threads": 2, "type_k": "f16", "flash_attn": true,
       "repack": true, "n_prompt": 64, "n_gen": 4, "test_time": "2026-01-01T00:00:00Z",
       "avg_ns": 1, "avg_ts": 61.5, "test": "pp64+tg4"},
      {"build_commit": "0115ace2", "n_threads": 2, "type_k": "f16", "flash_attn": true,
       "repack": true, "n_prompt": 64, "n_gen": 4, "test_time": "2026-01-01T00:00:00Z",
       "avg_ns": 1, "avg_ts": 20.25, "test": "tg4@pp64"}
    ]"#;

    #[test]
    fn the_bench_of_ik_llama_is_read_by_the_name_of_its_test() {
        let decode = llama_of(Fork::Ik, 64, Task::Decode);
        assert_eq!(parse_llama(IK_LLAMA, &decode, 4), Ok(20.25));
        let prefill = llama_of(Fork::Ik, 64, Task::Prefill);
        assert!(parse_llama(IK_LLAMA, &prefill, 4).is_err());
    }

    fn finished(stdout: &str) -> Finished {
        Finished::of(stdout, 2.5)
    }

    #[test]
    fn our_lines_are_read() {
        let line = r#"{"depth":64,"prefill_tok_s":257.93,"decode_tok_s":null,
            "peak_rss_mib":136.5,"kv_type":"f16"}"#;
        let reading = read(&ours(&[Task::Prefill]), 4, &finished(line)).unwrap();
        assert_eq!(reading.values, [(Task::Prefill, 257.93)]);
        assert_eq!(reading.peak_mib, Some(136.5));
        assert!(read(&ours(&[Task::Prefill, Task::Decode]), 4, &finished(line)).is_err());
        let candle = r#"{"prefill_tok_s":null,"decode_tok_s":9.5}"#;
        let reading = read(
            &job(Series::Candle, 64, &[Task::Decode]),
            4,
            &finished(candle),
        );
        assert_eq!(reading.unwrap().values, [(Task::Decode, 9.5)]);
    }

    #[test]
    fn a_load_is_the_time_of_the_whole_process() {
        let line = r#"{"prefill_tok_s":35.73,"decode_tok_s":null}"#;
        let reading = read(&ours(&[Task::Load]), 4, &finished(line)).unwrap();
        assert_eq!(reading.values, [(Task::Load, 2.5)]);
    }

    #[test]
    fn a_peer_says_in_its_words_what_it_cannot() {
        // As bench/mistral/measure.py writes it, after a line of mistral.rs's log.
        let stdout = "INFO mistralrs: loading\n{\"cannot\": \"mistral.rs ends at 8192 tokens\"}\n";
        let task = [Task::Prefill];
        let error = read(&job(Series::Mistral, 16384, &task), 4, &finished(stdout)).unwrap_err();
        assert!(matches!(&error, BenchError::Cannot(reason) if reason.contains("8192")));
        let stdout = "INFO mistralrs\n{\"prefill_tok_s\": 3.5, \"decode_tok_s\": null}\n";
        let reading = read(&job(Series::Mistral, 64, &task), 4, &finished(stdout)).unwrap();
        assert_eq!(reading.values, [(Task::Prefill, 3.5)]);
    }

    fn engines() -> Engines {
        let llama = |name: &str| {
            Some(Llama {
                bench: name.into(),
                quantize: "llama-quantize".into(),
                server: Some("llama-server".into()),
                version: String::new(),
            })
        };
        Engines {
            selfextend: "selfextend".into(),
            llama: llama("llama-bench"),
            ik_llama: llama("ik-bench"),
            mistral: Some("python".into()),
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
        let load = words(&llama(0, Task::Load));
        assert_eq!(load, format!("{common} -p 1 -n 0 --no-warmup"));
        let mistral = words(&job(Series::Mistral, 512, &[Task::Prefill, Task::Decode]));
        assert!(
            mistral.ends_with("mistral/measure.py m.gguf 512 32"),
            "{mistral}"
        );
    }

    #[test]
    fn commands_of_ik_llama() {
        let common = "ik-bench -m m.gguf -o json -r 1 -t 2 -fa 1 -ctk f16 -ctv f16";
        let of = |length, task| words(&llama_of(Fork::Ik, length, task));
        let decode = of(4096, Task::Decode);
        assert_eq!(decode, format!("{common} -p 0 -n 0 -gp 4096,32 -rtr 1"));
        let shallow = of(0, Task::Decode);
        assert_eq!(shallow, format!("{common} -p 0 -n 32 -rtr 1"));
        let long = of(8192, Task::Prefill);
        assert_eq!(long, format!("{common} -p 8192 -n 0 -rtr 1 -w 0"));
    }
}
