//! A server in this process, on a tiny random model.

// Each test file uses a part of this.
#![allow(dead_code, unused_imports)]

#[path = "../../../selfextend-cli/tests/common/tiny.rs"]
mod tiny;

use selfextend::settings::SettingsError;
use selfextend::speculate::{DraftFile, DraftModel};
use selfextend::{ContextRequest, LoadOptions, Model, SessionOptions, TextModel};
use selfextend_server::{Ladder, Server, ServerConfig};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub use tiny::{Tiny, WINDOW};
use tokio::sync::oneshot;

/// The largest context of the servers here.
pub const CONTEXT: usize = 1024;

/// A server that is stopped when this value is dropped.
pub struct Running {
    pub base: String,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer to a request.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Asserts an error with a status and a code, in OpenAI's shape.
    #[track_caller]
    pub fn fails(&self, status: u16, code: &str) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        let error = &self.body["error"];
        let found = error["code"].as_str().unwrap_or_default();
        assert_eq!(found, code, "{self:?}");
        assert!(
            error["type"].is_string() && error.get("param").is_some(),
            "{self:?}"
        );
        error["message"].as_str().unwrap()
    }

    /// The first answer's text.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!(self.status, 200, "{self:?}");
        let choice = &self.body["choices"][0];
        let text = choice["text"]
            .as_str()
            .or(choice["message"]["content"].as_str());
        text.unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// The model of most servers here.
pub fn tiny_model() -> Arc<TextModel> {
    model()
}

fn model() -> Arc<TextModel> {
    static MODEL: OnceLock<Arc<TextModel>> = OnceLock::new();
    MODEL
        .get_or_init(|| Arc::new(load(&Tiny::default())))
        .clone()
}

/// Two threads for a model.
pub fn load_options() -> LoadOptions {
    LoadOptions::new().with_threads(2)
}

/// A variant of the tiny model.
pub fn load(tiny: &Tiny) -> TextModel {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    tiny.write(&path);
    TextModel::load(&path, load_options()).unwrap()
}

/// A variant of the tiny model that guesses for the tiny model.
pub fn draft(tiny: &Tiny) -> DraftModel {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("draft.gguf");
    tiny.write(&path);
    let text = model();
    let file = DraftFile::open(&path, &[]).unwrap();
    file.load(&text.model, &text.tokenizer, load_options())
        .unwrap()
}

/// A file of the shared data; `None`, with a message, where it is absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var_os("SELFEXTEND_SHARED").map_or(default.into(), PathBuf::from);
    let path = root.join(name);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// A tiny checkpoint of a family, with the tokenizer of the tiny model, which has more tokens.
pub fn checkpoint(family: &str, options: LoadOptions) -> TextModel {
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../selfextend/tests/checkpoints");
    let path = checkpoints.join(family).join("model.gguf");
    let mut text = load(&Tiny::default());
    text.model = Model::load(path, options).unwrap();
    text
}

/// Settings that tests start from.
pub fn config() -> ServerConfig {
    let mut config = ServerConfig::new("tiny");
    config.listen.set_port(0);
    config.scheduler.kv_memory = 64 << 20;
    config.scheduler.chunk = 128;
    config.scheduler.busy_chunk = 32;
    config.default_max_tokens = 24;
    config.grace = Duration::from_secs(20);
    config
}

/// The rungs of the servers here.
pub fn ladder(text: &TextModel) -> Ladder {
    let config = text.model.config();
    let options = |context| {
        let request = ContextRequest::new().with_context(context);
        Ok::<SessionOptions, SettingsError>(request.resolve(config.trained_window)?.into())
    };
    Ladder::new(config, CONTEXT, options).unwrap()
}

/// Starts a server of the tiny model.
pub fn start(config: ServerConfig) -> Running {
    start_with(config, model())
}

/// Starts a server of a model.
pub fn start_with(config: ServerConfig, text: Arc<TextModel>) -> Running {
    let (send_address, address) = std::sync::mpsc::channel();
    let (shutdown, asked) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let ladder = ladder(&text);
            let server = Server::bind(config, text, ladder).await.unwrap();
            send_address.send(server.address().unwrap()).unwrap();
            server.run(async { drop(asked.await) }).await.unwrap();
        });
    });
    Running {
        base: format!("http://{}", address.recv().unwrap()),
        shutdown: Some(shutdown),
        thread: Some(thread),
    }
}

fn reply(result: Result<ureq::Response, ureq::Error>) -> Reply {
    let response = match result {
        Ok(response) | Err(ureq::Error::Status(_, response)) => response,
        Err(error) => panic!("{error}"),
    };
    let names = response.headers_names();
    let headers = names.into_iter().map(|name| {
        let value = response.header(&name).unwrap_or_default().to_owned();
        (name, value)
    });
    Reply {
        headers: headers.collect(),
        status: response.status(),
        body: response.into_json().unwrap_or(Value::Null),
    }
}

impl Running {
    pub fn get(&self, path: &str) -> Reply {
        reply(ureq::get(&format!("{}{path}", self.base)).call())
    }

    pub fn get_text(&self, path: &str) -> String {
        let response = ureq::get(&format!("{}{path}", self.base)).call().unwrap();
        response.into_string().unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&self, path: &str, body: &str) -> Reply {
        reply(ureq::post(&format!("{}{path}", self.base)).send_string(body))
    }

    /// A request with a header.
    pub fn post_with(&self, header: (&str, &str), path: &str, body: &Value) -> Reply {
        let request = ureq::post(&format!("{}{path}", self.base)).set(header.0, header.1);
        reply(request.send_string(&body.to_string()))
    }

    pub fn complete(&self, body: &Value) -> Reply {
        self.post("/v1/completions", body)
    }

    /// A request whose answer is read line by line.
    pub fn open(&self, path: &str, body: &Value) -> impl Iterator<Item = Value> + use<> {
        let request = ureq::post(&format!("{}{path}", self.base));
        let response = request.send_string(&body.to_string()).unwrap();
        let lines = BufReader::new(response.into_reader()).lines();
        lines.map_while(Result::ok).filter_map(|line| {
            let data = line.strip_prefix("data: ")?.to_owned();
            Some(if data == "[DONE]" {
                json!("[DONE]")
            } else {
                serde_json::from_str(&data).unwrap()
            })
        })
    }

    /// Waits until something is true of `/ready`.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let state = self.get("/ready").body;
            if is(&state) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {state}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end.
    pub fn ask_to_end(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until it has ended.
    pub fn end(&mut self) {
        self.ask_to_end();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ask_to_end();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok());
        }
    }
}

/// Forbids the end tokens, so that answers are as long as they may be.
pub fn endless() -> Value {
    json!({"260": -100, "261": -100, "262": -100})
}

/// The text of a stream's first answer.
pub fn streamed_text(chunks: &[Value]) -> String {
    let text = |chunk: &Value| {
        let choice = &chunk["choices"][0];
        let text = choice["text"]
            .as_str()
            .or(choice["delta"]["content"].as_str());
        text.unwrap_or_default().to_owned()
    };
    chunks.iter().map(text).collect()
}

/// Some text of so many bytes, each a token of the tiny model or nearly.
pub fn prose(seed: usize, len: usize) -> String {
    let letter = |i: usize| char::from(b'b' + ((i * i * 7 + i / 3 + seed * 11) % 17) as u8);
    (0..len)
        .map(|i| if i % 6 == 5 { ' ' } else { letter(i) })
        .collect()
}
