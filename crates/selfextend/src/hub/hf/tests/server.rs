//! A hub, and the place that it redirects to for large files, in one process.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::COMMIT;

/// How a server differs from the hub.
#[derive(Clone)]
pub(super) struct Rules {
    /// Whether the list of files has their checksums; `None`: there is no list.
    pub(super) list: Option<bool>,
    /// Whether HEAD is answered.
    pub(super) head: bool,
    /// Entity tags that are sent: the hub's, none, or others.
    pub(super) tag: Tag,
    /// Whether X-Repo-Commit is sent.
    pub(super) commit: bool,
    /// What a request for a part gives.
    pub(super) range: Range,
    /// Whether the length of a body is told.
    pub(super) length: Length,
    /// Bodies of files that are cut after so many bytes, and how many of them.
    pub(super) cut: (usize, usize),
    /// Whether a byte of every file is changed.
    pub(super) damage: bool,
    /// Answers to the first requests.
    pub(super) first: Vec<&'static str>,
    /// Headers of all refusals.
    pub(super) refusal: &'static str,
    /// The token without which nothing is served.
    pub(super) token: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Tag {
    Hub,
    None,
    Other,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Range {
    /// A part, with Content-Range.
    Told,
    /// A part, without Content-Range.
    Untold,
    /// Always the whole.
    Ignored,
    /// A part that begins one byte too early, with its true Content-Range.
    Shifted,
    /// A refusal.
    Refused,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Length {
    Told,
    Chunks,
    Untold,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            list: Some(true),
            head: true,
            tag: Tag::Hub,
            commit: true,
            range: Range::Told,
            length: Length::Told,
            cut: (0, 0),
            damage: false,
            first: Vec::new(),
            refusal: "",
            token: None,
        }
    }
}

/// A running server; it ends with the process.
pub(super) struct Server {
    pub(super) address: String,
    log: Arc<Mutex<Vec<String>>>,
}

type Files = Vec<(String, Vec<u8>)>;

struct State {
    files: Files,
    rules: Mutex<Rules>,
    elsewhere: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn start<'a>(files: impl Iterator<Item = (&'a str, Vec<u8>)>, rules: Rules) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another port is another origin.
        let store = TcpListener::bind("127.0.0.1:0").unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let address = format!("http://{}/", hub.local_addr().unwrap());
        let state = Arc::new(State {
            files: files.map(|(name, text)| (name.to_owned(), text)).collect(),
            rules: Mutex::new(rules),
            elsewhere: format!("http://{}", store.local_addr().unwrap()),
            log: Arc::clone(&log),
        });
        for listener in [hub, store] {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let state = Arc::clone(&state);
                    // A client that hangs up early is its own affair.
                    thread::spawn(move || stream.and_then(|stream| answer(stream, &state)));
                }
            });
        }
        Self { address, log }
    }

    /// The heads of all requests so far.
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How many requests had this in their first line.
    pub(super) fn count(&self, words: &str) -> usize {
        let log = self.log();
        let first = log.iter().filter_map(|head| head.lines().next());
        first.filter(|line| line.contains(words)).count()
    }
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn git_sha1(text: &[u8]) -> String {
    let header = format!("blob {}\0", text.len());
    hex(Sha1::new_with_prefix(header).chain_update(text).finalize())
}

/// Whether the hub keeps a file elsewhere, under its SHA-256.
fn is_large(name: &str) -> bool {
    name.ends_with(".gguf") || name.ends_with(".safetensors")
}

struct Reply {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

fn reply(status: &'static str, headers: String, body: impl Into<Vec<u8>>) -> Reply {
    let body = body.into();
    Reply {
        status,
        headers,
        body,
    }
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    state.log.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut rules = state.rules.lock().unwrap();
    let found = if !rules.first.is_empty() {
        reply(rules.first.remove(0), "Retry-After: 0\r\n".into(), "")
    } else {
        find(path, &head, state, &rules)
    };
    let is_file = found.status.starts_with("20") && !path.starts_with("/api/");
    let cut = (is_file && rules.cut.1 > 0 && !head.starts_with("HEAD")).then(|| {
        rules.cut.1 -= 1;
        rules.cut.0
    });
    let length = if is_file { rules.length } else { Length::Told };
    drop(rules);
    let sent = &found.body[..cut.unwrap_or(found.body.len()).min(found.body.len())];
    write!(stream, "HTTP/1.1 {}\r\n{}", found.status, found.headers)?;
    match length {
        Length::Told => write!(stream, "Content-Length: {}\r\n", found.body.len())?,
        Length::Chunks => write!(stream, "Transfer-Encoding: chunked\r\n")?,
        Length::Untold => {}
    }
    stream.write_all(b"Connection: close\r\n\r\n")?;
    if head.starts_with("HEAD") {
        return Ok(());
    }
    if length == Length::Chunks {
        write!(stream, "{:x}\r\n", sent.len())?;
        stream.write_all(sent)?;
        let end = if cut.is_some() { "" } else { "\r\n0\r\n\r\n" };
        return stream.write_all(end.as_bytes());
    }
    stream.write_all(sent)
}

fn find(path: &str, head: &str, state: &State, rules: &Rules) -> Reply {
    let refuse = |status| reply(status, rules.refusal.to_owned(), "");
    let lower = head.to_ascii_lowercase();
    let bearer = |token: &str| lower.contains(&format!("authorization: bearer {token}\r\n"));
    if let Some(name) = path.strip_prefix("/store/") {
        let file = state.files.iter().find(|(file, _)| file == name);
        return file.map_or_else(
            || refuse("404 Not Found"),
            |(_, text)| part(&lower, text, "", rules),
        );
    }
    if rules.token.is_some_and(|token| !bearer(token)) {
        return refuse("401 Unauthorized");
    }
    if path == "/api/models/o/n/revision/main?blobs=true" {
        return rules.list.map_or_else(
            || refuse("404 Not Found"),
            |whole| reply("200 OK", String::new(), list(&state.files, whole)),
        );
    }
    let wanted = ["main", COMMIT]
        .iter()
        .find_map(|at| path.strip_prefix(&format!("/o/n/resolve/{at}/")));
    let Some((name, text)) = state
        .files
        .iter()
        .find(|(name, _)| wanted == Some(name.as_str()))
    else {
        return refuse("404 Not Found");
    };
    if head.starts_with("HEAD") && !rules.head {
        return refuse("405 Method Not Allowed");
    }
    let mut headers = String::new();
    if rules.commit {
        headers += &format!("X-Repo-Commit: {COMMIT}\r\n");
    }
    let tag = match rules.tag {
        Tag::None => None,
        Tag::Other => Some("../../5f3a-1b".to_owned()),
        Tag::Hub if is_large(name) => Some(hex(Sha256::digest(text))),
        Tag::Hub => Some(git_sha1(text)),
    };
    if let Some(tag) = tag {
        let named = if is_large(name) { "X-Linked-" } else { "" };
        headers += &format!("{named}Etag: \"{tag}\"\r\n");
    }
    if !is_large(name) {
        return part(&lower, text, &headers, rules);
    }
    headers += &format!("X-Linked-Size: {}\r\n", text.len());
    headers += &format!("Location: {}/store/{name}\r\n", state.elsewhere);
    reply("302 Found", headers, "")
}

/// A file, or the part of it that was asked for.
fn part(head: &str, text: &[u8], headers: &str, rules: &Rules) -> Reply {
    let mut text = text.to_vec();
    if rules.damage {
        text[3] ^= 1;
    }
    let range = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let size = text.len();
    let Some(mut start) = range.and_then(|start| start.parse::<usize>().ok()) else {
        return reply("200 OK", headers.to_owned(), text);
    };
    match rules.range {
        Range::Ignored => return reply("200 OK", headers.to_owned(), text),
        Range::Refused => return reply("416 Range Not Satisfiable", String::new(), ""),
        Range::Shifted => start -= 1,
        Range::Told | Range::Untold => {}
    }
    if start >= size {
        return reply("416 Range Not Satisfiable", String::new(), "");
    }
    let mut headers = headers.to_owned();
    if rules.range != Range::Untold {
        headers += &format!("Content-Range: bytes {start}-{}/{size}\r\n", size - 1);
    }
    reply("206 Partial Content", headers, &text[start..])
}

fn list(files: &Files, whole: bool) -> String {
    let entries = files.iter().map(|(name, text)| {
        let mut entry = serde_json::json!({ "rfilename": name });
        if whole {
            let pointer = format!("pointer to {name}");
            let kept = if is_large(name) {
                pointer.as_bytes()
            } else {
                text
            };
            entry["size"] = text.len().into();
            entry["blobId"] = git_sha1(kept).into();
        }
        if whole && is_large(name) {
            let sha256 = hex(Sha256::digest(text));
            entry["lfs"] = serde_json::json!({ "sha256": sha256, "size": text.len() });
        }
        entry
    });
    let siblings: Vec<_> = entries.collect();
    serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string()
}
