//! The same measurements through servers: each is started for a job, asked over HTTP, and ended.

use crate::client::{Answer, Client};
use crate::engines::Engines;
use crate::error::{BenchError, Result};
use crate::process::Background;
use crate::series::{Job, Reading, Server, Task};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Tokens of the shortest prompt: without one there is nothing to continue.
const LEAST_PROMPT: usize = 16;
/// Room beside prompt and answer, for what a server puts before or keeps back.
const ROOM: usize = 64;
/// Each is one token in the vocabularies of GPT-2, Llama 3, SmolLM and Qwen.
const WORDS: [&str; 10] = [
    "river", "stone", "light", "under", "seven", "green", "window", "market", "letter", "quiet",
];

/// Measures a server.
pub fn run(
    engines: &Engines,
    server: &Server,
    job: &Job,
    model: &Path,
    round: usize,
) -> Result<Reading> {
    if let Server::Running { url, .. } = server {
        if job.wants(Task::Load) {
            let reason = "a server that was running already: its load was not seen";
            return Err(BenchError::Cannot(reason.to_owned()));
        }
        let client = Client::new(url, engines.timeout);
        let values = measure(&client, job, engines.decode_tokens, round)?;
        return Ok(Reading {
            values,
            peak_mib: None,
        });
    }
    let port = free_port()?;
    let Some(mut command) = command(engines, server, job, model, port) else {
        return Err(BenchError::failure("this server is not available"));
    };
    let url = format!("http://127.0.0.1:{port}");
    let mut running = Background::start(&mut command)?;
    let probe = Client::new(&url, Duration::from_secs(5));
    let load = running.wait_until(|| probe.is_ready(), engines.timeout)?;
    let values = if job.wants(Task::Load) {
        vec![(Task::Load, load)]
    } else {
        let client = Client::new(&url, engines.timeout);
        match measure(&client, job, engines.decode_tokens, round) {
            // What ours does not take was asked wrongly.
            Err(error) if error.is_failure() || job.series.is_ours() => {
                return Err(match error {
                    timeout @ BenchError::Timeout { .. } => timeout,
                    error => running.error(error.to_string()),
                });
            }
            measured => measured?,
        }
    };
    Ok(Reading {
        values,
        peak_mib: running.peak_mib(),
    })
}

/// One answer to a short prompt, which pages in the weights, then the one that is timed.
fn measure(client: &Client, job: &Job, decode: usize, round: usize) -> Result<Vec<(Task, f64)>> {
    // Another text each time: none may begin like one whose keys and values are kept.
    let seed = 2 * (job.length + round);
    let model = client.model()?;
    client.complete(&model, &prompt(LEAST_PROMPT, seed + 1), 2)?;
    let decodes = job.wants(Task::Decode);
    let tokens = job.length.max(LEAST_PROMPT);
    // As many steps of decode as elsewhere: the first token comes from the prefill.
    let wanted = if decodes { decode + 1 } else { 1 };
    let answer = client.complete(&model, &prompt(tokens, seed), wanted)?;
    check(&answer, tokens, wanted)?;
    let value = |&task: &Task| match task {
        Task::Decode => answer.decode_tok_s().map(|rate| (task, rate)),
        Task::Prefill | Task::Load => Some((task, answer.prefill_tok_s())),
    };
    let values: Option<Vec<_>> = job.tasks.iter().map(value).collect();
    values.ok_or_else(|| BenchError::failure("the whole answer came at once"))
}

/// Whether the server did what was asked, nearly: it may put a token before the text, and an
/// answer may end a little early.
fn check(answer: &Answer, tokens: usize, wanted: usize) -> Result<()> {
    let (read, written) = (answer.prompt_tokens, answer.completion_tokens);
    if read.abs_diff(tokens) > (tokens / 50).max(8) {
        return Err(BenchError::Cannot(format!(
            "the prompt of {tokens} words has {read} tokens for this server"
        )));
    }
    if 2 * written < wanted {
        return Err(BenchError::Cannot(format!(
            "the answer ended after {written} of {wanted} tokens"
        )));
    }
    Ok(())
}

/// A text of that many words. Its first ones are those of no other seed.
fn prompt(tokens: usize, seed: usize) -> String {
    let mut random = seed as u64;
    let mut word = || {
        // Knuth's constants; the high bits are the random ones.
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        WORDS[(random >> 33) as usize % WORDS.len()]
    };
    let words: Vec<_> = (0..tokens).map(|_| word()).collect();
    words.join(" ")
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address
        .map(|address| address.port())
        .map_err(|reason| BenchError::Io {
            what: "cannot find a free port".to_owned(),
            reason,
        })
}

fn command(
    engines: &Engines,
    server: &Server,
    job: &Job,
    model: &Path,
    port: u16,
) -> Option<Command> {
    let (threads, port) = (engines.threads.to_string(), port.to_string());
    let context = job.length.max(LEAST_PROMPT) + engines.decode_tokens + ROOM;
    let context = context.to_string();
    match server {
        Server::Ours { kv_type } => {
            let mut command = Command::new(&engines.selfextend);
            command.args(["serve", "--plain", "--model"]).arg(model);
            command.args(["--port", &port, "--threads", &threads]);
            command.args(["--kv-type", kv_type, "--context", &context]);
            Some(command)
        }
        Server::Llama { kv_type } => {
            let mut command = Command::new(engines.llama.as_ref()?.server.as_ref()?);
            command.arg("-m").arg(model);
            command.args(["--host", "127.0.0.1", "--port", &port]);
            command.args(["-t", &threads, "-tb", &threads, "-c", &context]);
            command.args(["-np", "1", "-fa", "on", "-ctk", kv_type, "-ctv", kv_type]);
            // It is warmed up by a request, as the others are.
            command.arg("--no-warmup");
            Some(command)
        }
        Server::Running { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::in_words;
    use crate::series::Series;
    use std::collections::BTreeSet;

    #[test]
    fn prompts_have_their_length_and_begin_apart() {
        let mut beginnings = BTreeSet::new();
        for length in [0, 512, 4096, 16384] {
            for seed in (0..6).map(|round| 2 * (length + round)) {
                let text = prompt(64, seed);
                assert_eq!(text.split(' ').count(), 64);
                let beginning: Vec<_> = text.split(' ').take(8).collect();
                assert!(beginnings.insert(beginning.join(" ")), "{length} {seed}");
            }
        }
    }

    fn answer(prompt_tokens: usize, completion_tokens: usize) -> Answer {
        Answer {
            prompt_tokens,
            completion_tokens,
            first: 1.0,
            rest: 1.0,
        }
    }

    #[test]
    fn an_answer_to_something_else_does_not_count() {
        assert!(check(&answer(513, 33), 512, 33).is_ok());
        assert!(check(&answer(700, 33), 512, 33).is_err());
        let error = check(&answer(512, 4), 512, 33).unwrap_err();
        assert!(error.to_string().contains("after 4 of 33"), "{error}");
    }

    #[test]
    fn commands() {
        let engines = Engines {
            selfextend: "selfextend".into(),
            llama: Some(crate::peers::Llama {
                bench: "llama-bench".into(),
                quantize: "llama-quantize".into(),
                server: Some("llama-server".into()),
                version: String::new(),
            }),
            ik_llama: None,
            mistral: None,
            candle: None,
            threads: 2,
            decode_tokens: 32,
            timeout: Duration::from_secs(1),
        };
        let words = |server: Server| {
            let job = Job {
                series: Series::Served(server.clone()),
                length: 512,
                tasks: vec![Task::Prefill],
            };
            command(&engines, &server, &job, Path::new("m.gguf"), 8000).map(|it| in_words(&it))
        };
        let kv_type = || "f16".to_owned();
        let ours = words(Server::Ours { kv_type: kv_type() });
        let expected = "selfextend serve --plain --model m.gguf --port 8000 --threads 2 \
                        --kv-type f16 --context 608";
        assert_eq!(ours.as_deref(), Some(expected));
        let llama = Server::Llama { kv_type: kv_type() };
        let expected = "llama-server -m m.gguf --host 127.0.0.1 --port 8000 -t 2 -tb 2 -c 608 \
                        -np 1 -fa on -ctk f16 -ctv f16 --no-warmup";
        assert_eq!(words(llama).as_deref(), Some(expected));
    }
}
