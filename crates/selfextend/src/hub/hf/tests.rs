//! Pulls from a small server on this machine that answers as the hub does.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;

const TEXT: &[u8] = b"GGUF tiny model";
const SHA: &str = "660423459b1593c3f53ee78ca4424f7272ef129ef3b877e0432522454293507b";

/// How the server errs.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Damage,
    Truncate,
}

struct Lab {
    dir: tempfile::TempDir,
    options: PullOptions,
}

impl Lab {
    fn new(files: &'static [&'static str], fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up early is its own affair.
                let _ = stream.and_then(|stream| answer(stream, files, fault));
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let options = PullOptions {
            hub_cache: Some(dir.path().join("hub")),
            hub_endpoint: Some(endpoint),
            ..PullOptions::default()
        };
        Self { dir, options }
    }

    fn pull(&self, spec: &str) -> Result<PathBuf, HubError> {
        pull(&id(spec), &self.options, &mut |_| {})
    }

    fn locate(&self, spec: &str) -> Option<PathBuf> {
        locate(&id(spec), &self.options).unwrap()
    }
}

fn id(spec: &str) -> HubId {
    HubId::parse(spec).unwrap().unwrap()
}

/// Answers one request: the list of the model's files, or one of them. `o/gated` needs a token.
fn answer(mut stream: TcpStream, files: &[&str], fault: Fault) -> io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default();
    let file = path.split_once("/resolve/main/").map(|(_, file)| file);
    let (status, headers, body) = if path.contains("o/gated") && !head.contains("Bearer secret") {
        ("401 Unauthorized", String::new(), Vec::new())
    } else if path.contains("o/broken") {
        ("503 Busy", String::new(), Vec::new())
    } else if path == "/api/models/o/n/revision/main" {
        let list: Vec<_> = files
            .iter()
            .map(|it| format!("{{\"rfilename\":\"{it}\"}}"))
            .collect();
        let body = format!("{{\"sha\":\"c0ffee\",\"siblings\":[{}]}}", list.join(","));
        ("200 OK", String::new(), body.into_bytes())
    } else if file.is_some_and(|file| files.contains(&file)) {
        let (headers, body) = part(&head);
        ("206 Partial Content", headers, body)
    } else {
        ("404 Not Found", String::new(), Vec::new())
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n"
    )?;
    stream.write_all(b"Connection: close\r\n\r\n")?;
    let fault = if file.is_some() { fault } else { Fault::None };
    stream.write_all(&spoil(body, fault))
}

/// The part of the text that a request's head asks for, and the headers that go with it.
fn part(head: &str) -> (String, Vec<u8>) {
    let head = head.to_ascii_lowercase();
    let range = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="));
    let (start, end) = range
        .and_then(|range| range.split_once('-'))
        .unwrap_or_default();
    let start: usize = start.parse().unwrap_or(0);
    let end = end.parse().map_or(TEXT.len(), |last: usize| last + 1);
    let (last, size) = (end - 1, TEXT.len());
    let headers = format!(
        "Content-Range: bytes {start}-{last}/{size}\r\nETag: \"{SHA}\"\r\nX-Repo-Commit: c0ffee\r\n"
    );
    (headers, TEXT[start..end].to_vec())
}

/// What becomes of a file on its way. The byte asked for first, for its headers, is spared.
fn spoil(mut body: Vec<u8>, fault: Fault) -> Vec<u8> {
    match fault {
        Fault::Damage if body.len() > 1 => body[3] ^= 1,
        Fault::Truncate if body.len() > 1 => body.truncate(5),
        _ => {}
    }
    body
}

#[test]
fn names_are_read() {
    let plain = id("Owner/Some.Model-1_2");
    assert_eq!(
        (plain.repo.as_str(), plain.file),
        ("Owner/Some.Model-1_2", None)
    );
    let named = id("o/n:sub/x.Q4_K_M.gguf");
    assert_eq!(named.file.as_deref(), Some("sub/x.Q4_K_M.gguf"));
}

#[test]
fn a_named_file_is_pulled() {
    let lab = Lab::new(&["a.gguf", "sub/b.gguf"], Fault::None);
    assert_eq!(lab.locate("o/n:sub/b.gguf"), None);
    let mut seen = Vec::new();
    let spec = id("o/n:sub/b.gguf");
    let path = pull(&spec, &lab.options, &mut |it| seen.push(it)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), TEXT);
    assert!(path.starts_with(lab.dir.path()));
    let size = TEXT.len() as u64;
    for phase in [Phase::Download, Phase::Verify] {
        let last = seen.iter().rfind(|it| it.phase == phase);
        assert_eq!(
            last,
            Some(&Progress {
                phase,
                done: size,
                total: size
            })
        );
    }
    // From now on it is found without the network, by its model's name alone too.
    assert_eq!(lab.locate("o/n:sub/b.gguf"), Some(path.clone()));
    assert_eq!(lab.locate("o/n"), Some(path));
    assert_eq!(lab.locate("o/n:a.gguf"), None);
}

#[test]
fn the_only_gguf_file_is_meant() {
    let lab = Lab::new(&["README.md", "a.gguf", "../../evil.gguf"], Fault::None);
    assert!(lab.pull("o/n").unwrap().ends_with("a.gguf"));
}

#[test]
fn without_gguf_the_folder_with_safetensors_is_meant() {
    let files = &[
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    let lab = Lab::new(files, Fault::None);
    assert_eq!(lab.locate("o/n"), None);
    let config = lab.pull("o/n").unwrap();
    assert!(config.ends_with("config.json"));
    for (file, wanted) in [
        ("model.safetensors", true),
        ("tokenizer.json", true),
        ("README.md", false),
    ] {
        assert_eq!(config.with_file_name(file).is_file(), wanted, "{file}");
    }
    assert_eq!(lab.locate("o/n"), Some(config));
}

#[test]
fn several_gguf_files_are_listed() {
    let lab = Lab::new(&["b.gguf", "a.gguf"], Fault::None);
    let error = lab.pull("o/n").unwrap_err().to_string();
    assert!(
        error.contains("`o/n:a.gguf`") && error.contains("a.gguf\n  b.gguf"),
        "{error}"
    );
    lab.pull("o/n:a.gguf").unwrap();
    lab.pull("o/n:b.gguf").unwrap();
    let error = locate(&id("o/n"), &lab.options).unwrap_err();
    assert!(matches!(error, HubError::SeveralGguf { .. }), "{error}");
}

#[test]
fn other_formats_are_refused() {
    let lab = Lab::new(&["model.safetensors"], Fault::None);
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::NoGguf { .. }), "{error}");
}

#[test]
fn missing_and_gated_models_are_told_apart() {
    let mut lab = Lab::new(&["a.gguf"], Fault::None);
    for spec in ["o/other", "o/n:b.gguf"] {
        let error = lab.pull(spec).unwrap_err();
        assert!(matches!(error, HubError::HubNotFound { .. }), "{error}");
    }
    let error = lab.pull("o/gated:a.gguf").unwrap_err();
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    let error = lab.pull("o/broken").unwrap_err();
    assert!(matches!(error, HubError::Hub { .. }), "{error}");
    lab.options.hub_token = Some("secret".into());
    lab.pull("o/gated:a.gguf").unwrap();
}

#[test]
fn a_damaged_file_is_removed() {
    let lab = Lab::new(&["a.gguf"], Fault::Damage);
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::Mismatch { .. }), "{error}");
    assert_eq!(lab.locate("o/n:a.gguf"), None);
    let blob = lab.dir.path().join("hub/models--o--n/blobs").join(SHA);
    assert!(!blob.exists());
}

#[test]
fn a_broken_connection_leaves_no_model() {
    let lab = Lab::new(&["a.gguf"], Fault::Truncate);
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::HubNetwork { .. }), "{error}");
    assert_eq!(lab.locate("o/n:a.gguf"), None);
}

#[test]
fn a_hub_out_of_reach_is_an_error() {
    let mut lab = Lab::new(&[], Fault::None);
    // Nothing listens on the discard port.
    lab.options.hub_endpoint = Some("http://127.0.0.1:9".into());
    let error = lab.pull("o/n:a.gguf").unwrap_err();
    assert!(matches!(error, HubError::HubNetwork { .. }), "{error}");
    for endpoint in ["huggingface.co", "http://a b", "ftp://x"] {
        lab.options.hub_endpoint = Some(endpoint.into());
        let error = lab.pull("o/n").unwrap_err();
        assert!(matches!(error, HubError::BadEndpoint { .. }), "{error}");
    }
}
