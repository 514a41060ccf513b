//! Answers in OpenAI's shapes.

use super::Shared;
use super::generation::{Common, Kind};
use crate::scheduler::{Admitted, Piece, TokenLogprob};
use selfextend::Finish;
use serde_json::{Map, Value, json};

/// An answer as far as it has come.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub logprobs: Vec<TokenLogprob>,
    pub finish: Option<Finish>,
}

impl Answer {
    /// An answer that begins with a text.
    pub fn new(text: String) -> Self {
        Self {
            text,
            logprobs: Vec::new(),
            finish: None,
        }
    }

    /// Adds what came.
    pub fn push(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        self.logprobs.extend(piece.logprob);
    }
}

/// Writes the parts of a reply.
pub struct Reply {
    common: Common,
    app: Shared,
    cached_tokens: usize,
    completion_tokens: usize,
    done: usize,
    /// Characters of each answer that were sent, which old-style probabilities count.
    sent: Vec<usize>,
}

impl Reply {
    pub fn new(common: Common, app: Shared) -> Self {
        Self {
            sent: vec![0; common.prompts * common.n],
            common,
            app,
            cached_tokens: 0,
            completion_tokens: 0,
            done: 0,
        }
    }

    /// Notes that a prompt runs.
    pub fn admitted(&mut self, admitted: Admitted) {
        self.cached_tokens += admitted.cached_tokens;
    }

    /// Notes that the answers to a prompt are there; true for the last one.
    pub fn done(&mut self, completion_tokens: usize) -> bool {
        self.completion_tokens += completion_tokens;
        self.done += 1;
        self.done == self.common.prompts
    }

    fn usage(&self) -> Value {
        let Common {
            prompt_tokens,
            rung,
            trained_window,
            ..
        } = &self.common;
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "selfextend": {
                "group_size": rung.group_size,
                "neighbor_window": rung.neighbor_window,
                "trained_window": trained_window,
                "context": rung.context(),
            },
        })
    }

    fn envelope(&self, chunk: bool, choices: Vec<Value>) -> Map<String, Value> {
        let object = match (self.common.kind, chunk) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Plain, _) => "text_completion",
        };
        Map::from_iter([
            ("id".to_owned(), json!(self.common.id)),
            ("object".to_owned(), json!(object)),
            ("created".to_owned(), json!(self.common.created)),
            ("model".to_owned(), json!(self.common.model)),
            (
                "system_fingerprint".to_owned(),
                json!(concat!("selfextend-", env!("CARGO_PKG_VERSION"))),
            ),
            ("choices".to_owned(), choices.into()),
        ])
    }

    /// The whole reply.
    pub fn whole(&self, answers: &[Answer]) -> Value {
        let choices = answers.iter().enumerate().map(|(index, answer)| {
            let logprobs = self.logprobs(&answer.logprobs, 0);
            let mut choice = json!({
                "index": index,
                "logprobs": logprobs,
                "finish_reason": answer.finish.as_ref().map(reason),
            });
            match self.common.kind {
                Kind::Chat => {
                    choice["message"] =
                        json!({"role": "assistant", "content": answer.text, "refusal": null});
                }
                Kind::Plain => choice["text"] = json!(answer.text),
            }
            choice
        });
        let mut whole = self.envelope(false, choices.collect());
        whole.insert("usage".into(), self.usage());
        whole.into()
    }

    fn chunk(&self, choice: Value) -> Value {
        let mut chunk = self.envelope(true, vec![choice]);
        if self.common.include_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        chunk.into()
    }

    fn delta(&self, index: usize, text: &str, logprobs: Value, finish: Option<&Finish>) -> Value {
        let mut choice = json!({
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish.map(reason),
        });
        match self.common.kind {
            Kind::Chat if finish.is_some() => choice["delta"] = json!({}),
            Kind::Chat => choice["delta"] = json!({"content": text}),
            Kind::Plain => choice["text"] = json!(text),
        }
        self.chunk(choice)
    }

    /// What a stream begins with.
    pub fn openings(&self) -> Vec<Value> {
        let answers = 0..self.common.prompts * self.common.n;
        match self.common.kind {
            Kind::Chat => answers
                .map(|index| {
                    let delta = json!({"role": "assistant", "content": ""});
                    self.chunk(json!({
                        "index": index, "delta": delta, "logprobs": null, "finish_reason": null,
                    }))
                })
                .collect(),
            Kind::Plain => {
                let echo =
                    |index: usize| Some((index, self.common.echo.get(index / self.common.n)?));
                let texts = answers.filter_map(echo);
                texts
                    .map(|(index, text)| self.delta(index, text, Value::Null, None))
                    .collect()
            }
        }
    }

    /// A part of a stream.
    pub fn piece(&mut self, piece: &Piece) -> Value {
        let some: Vec<TokenLogprob> = piece.logprob.iter().cloned().collect();
        let logprobs = self.logprobs(&some, self.sent[piece.choice]);
        for token in &some {
            self.sent[piece.choice] += self.token(token.token).0.chars().count();
        }
        self.delta(piece.choice, &piece.text, logprobs, None)
    }

    /// The end of an answer in a stream.
    pub fn finished(&self, index: usize, finish: &Finish) -> Value {
        self.delta(index, "", Value::Null, Some(finish))
    }

    /// What a stream ends with.
    pub fn closing(&self) -> Option<Value> {
        self.common.include_usage.then(|| {
            let mut last = self.envelope(true, Vec::new());
            last.insert("usage".into(), self.usage());
            last.into()
        })
    }

    /// A token's text, which need not be whole characters, and its bytes.
    fn token(&self, id: u32) -> (String, Vec<u8>) {
        let bytes = self.app.text.tokenizer.token_bytes(id).unwrap_or_default();
        (
            String::from_utf8_lossy(&bytes).into_owned(),
            bytes.into_owned(),
        )
    }

    /// A token's name among others: its text, or its bytes where those are no text.
    fn token_name(&self, id: u32) -> String {
        let (text, bytes) = self.token(id);
        if std::str::from_utf8(&bytes).is_ok() {
            return text;
        }
        let escaped = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
        std::iter::once("bytes:".to_owned())
            .chain(escaped)
            .collect()
    }

    fn logprobs(&self, tokens: &[TokenLogprob], offset: usize) -> Value {
        if tokens.is_empty() {
            return Value::Null;
        }
        match self.common.kind {
            Kind::Chat => {
                let entry = |(id, logprob): (u32, f64)| {
                    let (token, bytes) = self.token(id);
                    json!({"token": token, "logprob": logprob, "bytes": bytes})
                };
                let content = tokens.iter().map(|token| {
                    let mut all = entry((token.token, token.logprob));
                    let top = token.top.iter().copied().map(entry);
                    all["top_logprobs"] = top.collect();
                    all
                });
                json!({"content": content.collect::<Vec<_>>(), "refusal": null})
            }
            Kind::Plain => {
                let mut at = offset;
                let offsets = tokens.iter().map(|token| {
                    let count = self.token(token.token).0.chars().count();
                    at += count;
                    at - count
                });
                let top = tokens.iter().map(|token| {
                    let all = token
                        .top
                        .iter()
                        .map(|(id, p)| (self.token_name(*id), json!(p)));
                    Value::from(Map::from_iter(all))
                });
                json!({
                    "text_offset": offsets.collect::<Vec<_>>(),
                    "token_logprobs": tokens.iter().map(|t| t.logprob).collect::<Vec<_>>(),
                    "top_logprobs": top.collect::<Vec<_>>(),
                    "tokens": tokens.iter().map(|t| self.token_name(t.token)).collect::<Vec<_>>(),
                })
            }
        }
    }
}

fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndToken | Finish::Stop(_) | Finish::Stopped => "stop",
        Finish::MaxTokens | Finish::ContextFull => "length",
    }
}
