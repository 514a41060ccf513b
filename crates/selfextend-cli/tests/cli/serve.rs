//! `selfextend serve`, over real sockets.

use crate::common::{Tiny, command, dir, file, selfextend, tiny};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

struct Server {
    child: Child,
    address: String,
    /// What it said on stderr until it listened.
    said: Vec<String>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        Self::of(&tiny(), args)
    }

    /// A server of a model.
    fn of(model: &str, args: &[&str]) -> Self {
        let all = [
            &["serve", "-m", model, "--port", "0", "--context", "2k"],
            args,
        ]
        .concat();
        let mut child = command(&all).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{said:?}")).unwrap();
            let address = line
                .split_once("on http://")
                .map(|(_, address)| address.to_owned());
            said.push(line);
            if let Some(address) = address {
                break address;
            }
        };
        // The log must be read on, or the pipe fills.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address,
            said,
        }
    }

    /// An answer with its head.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn complete(&self, head: &str, body: &str) -> String {
        let length = body.len();
        self.ask(&format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Ends it as a crash would.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn body(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn it_answers_with_the_right_key_and_ends_when_asked() {
    // As editors on Windows write it.
    let keys = file(
        "keys.txt",
        "\u{feff}secret-one\r\n# ours\r\n\r\nsecret-two\r\n",
    );
    let server = Server::start(&[
        "--api-key-file",
        &keys,
        "--api-key",
        "three",
        "--alias",
        "small",
    ]);
    let request = r#"{"model": "small", "prompt": "the ant", "max_tokens": 5, "seed": 1}"#;
    assert!(server.complete("", request).starts_with("HTTP/1.1 401"));
    for key in ["secret-one", "secret-two", "three"] {
        let answer = server.complete(&format!("Authorization: Bearer {key}\r\n"), request);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(body(&answer)["model"], "small");
    }
    let elsewhere =
        server.ask("GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(elsewhere.starts_with("HTTP/1.1 403"), "{elsewhere}");
    let health = server.ask("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
}

#[test]
fn a_server_samples_as_the_model_recommends_where_asked_to() {
    let path = dir().join("served.gguf").display().to_string();
    let tiny = Tiny {
        sampling: &[("temp", 0.5), ("top_k", 9.0)],
        ..Default::default()
    };
    tiny.write(path.as_ref());
    let temperature = |more: &[&str]| {
        let server = Server::of(&path, more);
        let request = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let sampling = &body(&server.ask(request))["data"][0]["selfextend"]["default_sampling"];
        (sampling["temperature"].as_f64(), sampling["top_k"].as_u64())
    };
    assert_eq!(temperature(&[]), (Some(1.0), Some(0)));
    assert_eq!(
        temperature(&["--recommended-sampling"]),
        (Some(0.5), Some(9))
    );
}

#[test]
fn answers_are_the_same_with_a_draft() {
    let prompt = "the ant and the ant ".repeat(20);
    let request = format!(
        r#"{{"prompt": "{prompt}", "max_tokens": 60, "seed": 4, "temperature": 0.5, "n": 2}}"#
    );
    let choices = |server: &Server| body(&server.complete("", &request))["choices"].clone();
    let plain = choices(&Server::start(&[]));
    assert_eq!(plain.as_array().map(Vec::len), Some(2));
    let model = tiny();
    for more in [
        &["--draft", &model][..],
        &["--draft", &model, "--speculate"],
    ] {
        let server = Server::start(more);
        assert!(server.said.iter().any(|line| line.contains("drafts: ")));
        assert_eq!(choices(&server), plain);
        let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let metrics = server.ask(metrics);
        assert!(
            metrics.contains("selfextend_guessed_right_total"),
            "{metrics}"
        );
    }
    // What is enough without a draft.
    let few = ["--kv-memory", "800k"];
    assert!(!Server::start(&few).said.is_empty());
    let all = [
        &["serve", "-m", &model, "--port", "0", "--context", "2k"],
        &few[..],
    ]
    .concat();
    let refused = selfextend(&[&all[..], &["--draft", &model]].concat());
    refused.fails(2, &["--kv-memory"]);
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    let (log, model) = (dir().join("serve.log"), tiny());
    let mut child = command(&["serve", "-m", &model, "--port", "0"])
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&log).unwrap();
    let start = std::time::Instant::now();
    while !text().contains("on http://") && start.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let text = text();
    assert!(text.contains("INFO") && !text.contains('\x1b'), "{text}");
}

#[test]
fn prefixes_survive_a_crash_and_damaged_files_are_left_out() {
    let cache = dir().join("prefixes");
    let cache_dir = cache.display().to_string();
    let args = ["--cache-dir", &*cache_dir, "--cache-least-tokens", "300"];
    let prompt = "quick brown fox jumps over a lazy dog; ".repeat(21);
    let request = format!(r#"{{"prompt": "{prompt}", "max_tokens": 8, "seed": 1}}"#);
    let cached = |answer: &str| {
        let details = &body(answer)["usage"]["prompt_tokens_details"];
        details["cached_tokens"].as_u64().unwrap()
    };
    let files = || {
        let entries = std::fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = entries
            .filter(|p| p.extension().is_some_and(|e| e == "kv"))
            .collect();
        all.sort();
        all
    };
    let server = Server::start(&args);
    let first = server.complete("", &request);
    assert_eq!(cached(&first), 0);
    let full = body(&first)["usage"]["prompt_tokens"].as_u64().unwrap();
    while files().len() < full.div_ceil(256) as usize {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    server.kill();
    // As if it had been killed while it wrote.
    std::fs::write(cache.join("0123.part"), "half").unwrap();
    std::fs::write(cache.join("4567.part"), "another process writes it").unwrap();
    abandon(&cache.join("0123.part"));
    let server = Server::start(&args);
    assert!(!cache.join("0123.part").exists());
    assert!(cache.join("4567.part").exists());
    let second = server.complete("", &request);
    assert!(cached(&second) > full - 20, "{second}");
    assert_eq!(body(&first)["choices"], body(&second)["choices"]);
    server.kill();
    // Damage of every kind: one bit, a cut, another file.
    let damage: [fn(&mut Vec<u8>); 3] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes.truncate(100),
        |bytes| *bytes = b"something else entirely".to_vec(),
    ];
    for (path, damage) in files().iter().zip(damage.iter().cycle()) {
        let mut bytes = std::fs::read(path).unwrap();
        damage(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    let server = Server::start(&args);
    let warnings = server
        .said
        .iter()
        .filter(|line| line.contains("damaged or foreign"));
    assert_eq!(warnings.count(), files().len(), "{:?}", server.said);
    let third = server.complete("", &request);
    assert_eq!(cached(&third), 0);
    assert_eq!(body(&first)["choices"], body(&third)["choices"]);
}

/// As if nobody had written the file for two hours.
fn abandon(path: &Path) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    file.set_modified(then).unwrap();
}

/// Killed at whatever moment of its writing, it comes up again with what was written whole, and
/// answers as a server without a cache does.
#[test]
fn it_can_be_killed_while_it_writes() {
    const ROUNDS: usize = 12;
    let cache = dir().join("killed");
    let cache_dir = cache.display().to_string();
    let args = ["--cache-dir", &*cache_dir, "--cache-least-tokens", "300"];
    let draft_paths = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&cache).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|p| p.extension().is_some_and(|e| e == "part"))
            .collect()
    };
    let drafts = || draft_paths().len();
    let request = |round: usize| {
        let prompt = format!("{round} quick brown foxes jump over a lazy dog; ").repeat(40);
        format!(r#"{{"prompt": "{prompt}", "max_tokens": 8, "seed": {round}}}"#)
    };
    let answers: Vec<serde_json::Value> = {
        let server = Server::start(&[]);
        let answer = |round| body(&server.complete("", &request(round)))["choices"].clone();
        (0..ROUNDS).map(answer).collect()
    };
    // Where no file was being written at that moment, half of another stands for one.
    let leave_half = || {
        let entries = std::fs::read_dir(&cache).unwrap();
        let mut whole = entries.map(|entry| entry.unwrap().path());
        let whole = whole
            .find(|p| p.extension().is_none_or(|e| e != "part"))
            .unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        std::fs::write(whole.with_extension("part"), &bytes[..bytes.len() / 2]).unwrap();
    };
    let (mut half_written, mut cached) = (0, 0);
    for round in 0..ROUNDS {
        let server = Server::start(&args);
        let damaged = |line: &&String| line.contains("damaged or foreign");
        assert_eq!(server.said.iter().filter(damaged).count(), 0);
        assert_eq!(drafts(), 0);
        // What the last one was killed over, and something new to write.
        for asked in [round.saturating_sub(1), round] {
            let answer = body(&server.complete("", &request(asked)));
            assert_eq!(answer["choices"], answers[asked], "{round}");
            let details = &answer["usage"]["prompt_tokens_details"];
            cached += details["cached_tokens"].as_u64().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_micros(700 * round as u64));
        server.kill();
        match drafts() {
            0 => leave_half(),
            some => half_written += some,
        }
        assert!(drafts() > 0);
        for path in draft_paths() {
            abandon(&path);
        }
    }
    eprintln!("{half_written} of {ROUNDS} killed over a file; {cached} tokens from the cache");
    assert!(cached > 0);
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let model = tiny();
    let serve =
        |args: &[&str]| selfextend(&[&["serve", "-m", &model, "--port", "0"], args].concat());
    serve(&["--kv-memory", "10k"]).fails(2, &["--kv-memory", "256 tokens"]);
    serve(&["--kv-memory", "many"])
        .code
        .filter(|code| *code == 2)
        .unwrap();
    serve(&["--context", "2k", "--neighbor-window", "64"]).fails(2, &["--neighbor-window"]);
    let empty = file("nothing.txt", "\n# none\n");
    serve(&["--api-key-file", &empty]).fails(2, &["holds no key"]);
    serve(&["--cache-dir", &model]).fails(1, &["cannot keep prefixes", "--cache-dir"]);
    serve(&["--allow-host", "http://a"]).fails(2, &["--allow-host", "http://a"]);
    serve(&["--allow-origin", "a.example"]).fails(2, &["--allow-origin", "https://"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let busy = selfextend(&["serve", "-m", &model, "--port", &port]);
    busy.fails(1, &["cannot listen on", "--port"]);
}
