//! Answers in OpenAI's shapes.

use super::app::SharedApp;
use super::output::{Delta, Message, Output};
use super::submission::{Endpoint, RequestInfo};
use crate::scheduler::{Admitted, Piece, TokenLogprob};
use selfextend::Finish;
use serde_json::{Map, Value, json};

/// An answer as far as it is generated.
pub struct Answer {
    pub text: String,
    /// The parts of a chat's answer.
    pub message: Message,
    output: Output,
    pub logprobs: Vec<TokenLogprob>,
    pub finish: Option<Finish>,
}

impl Answer {
    /// An answer that begins with a text.
    pub fn new(text: String, output: Output) -> Self {
        Self {
            text,
            message: Message::default(),
            output,
            logprobs: Vec::new(),
            finish: None,
        }
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        let deltas = self.output.push(&piece);
        self.message.extend(deltas);
        self.logprobs.extend(piece.logprob);
    }

    /// Ends it.
    pub fn end(&mut self, finish: Finish) {
        let deltas = self.output.finish();
        self.message.extend(deltas);
        self.finish = Some(finish);
    }
}

/// Writes a reply, whole or in chunks.
pub struct Reply {
    info: RequestInfo,
    app: SharedApp,
    /// For a stream, what reads each of its answers.
    outputs: Vec<Output>,
    cached_tokens: usize,
    completion_tokens: usize,
    done: usize,
}

impl Reply {
    pub fn new(info: RequestInfo, app: SharedApp) -> Self {
        let answers = 0..info.prompts * info.n;
        Self {
            outputs: answers.map(|_| Output::new(&info.output)).collect(),
            info,
            app,
            cached_tokens: 0,
            completion_tokens: 0,
            done: 0,
        }
    }

    /// Notes that a prompt was admitted.
    pub fn admitted(&mut self, admitted: Admitted) {
        self.cached_tokens += admitted.cached_tokens;
    }

    /// Notes that the answers to a prompt are complete; true for the last prompt.
    pub fn done(&mut self, completion_tokens: usize) -> bool {
        self.completion_tokens += completion_tokens;
        self.done += 1;
        self.done == self.info.prompts
    }

    fn usage(&self, reasoning_tokens: usize) -> Value {
        let RequestInfo {
            prompt_tokens,
            rung,
            trained_window,
            ..
        } = &self.info;
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "selfextend": {
                "group_size": rung.group_size,
                "neighbor_window": rung.neighbor_window,
                "trained_window": trained_window,
                "context": rung.context(),
            },
        })
    }

    fn envelope(&self, chunk: bool, choices: Vec<Value>) -> Map<String, Value> {
        let object = match (self.info.endpoint, chunk) {
            (Endpoint::Chat, false) => "chat.completion",
            (Endpoint::Chat, true) => "chat.completion.chunk",
            (Endpoint::Completions, _) => "text_completion",
        };
        Map::from_iter([
            ("id".to_owned(), json!(self.info.id)),
            ("object".to_owned(), json!(object)),
            ("created".to_owned(), json!(self.info.created)),
            ("model".to_owned(), json!(self.info.model)),
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
            let logprobs = self.logprobs(&answer.logprobs);
            let mut choice = json!({
                "index": index,
                "logprobs": logprobs,
                "finish_reason": answer.finish.as_ref().map(|it| reason(it, answer.output.calls)),
            });
            match self.info.endpoint {
                Endpoint::Chat => choice["message"] = answer.message.json(),
                Endpoint::Completions => choice["text"] = json!(answer.text),
            }
            choice
        });
        let mut whole = self.envelope(false, choices.collect());
        let reasoning = answers.iter().map(|answer| answer.output.reasoning_tokens);
        whole.insert("usage".into(), self.usage(reasoning.sum()));
        whole.into()
    }

    fn chunk(&self, choice: Value) -> Value {
        let mut chunk = self.envelope(true, vec![choice]);
        if self.info.include_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        chunk.into()
    }

    fn delta(&self, index: usize, text: &str, logprobs: Value, finish: Option<&Finish>) -> Value {
        let mut choice = json!({
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish.map(|it| reason(it, self.outputs[index].calls)),
        });
        match self.info.endpoint {
            Endpoint::Chat if finish.is_some() => choice["delta"] = json!({}),
            Endpoint::Chat => choice["delta"] = json!({"content": text}),
            Endpoint::Completions => choice["text"] = json!(text),
        }
        self.chunk(choice)
    }

    /// The first chunks of a stream.
    pub fn openings(&self) -> Vec<Value> {
        let answers = 0..self.info.prompts * self.info.n;
        match self.info.endpoint {
            Endpoint::Chat => answers
                .map(|index| {
                    let delta = json!({"role": "assistant", "content": ""});
                    self.chunk(json!({
                        "index": index, "delta": delta, "logprobs": null, "finish_reason": null,
                    }))
                })
                .collect(),
            Endpoint::Completions => {
                let echo = |index: usize| Some((index, self.info.echo.get(index / self.info.n)?));
                let texts = answers.filter_map(echo);
                texts
                    .map(|(index, text)| self.delta(index, text, Value::Null, None))
                    .collect()
            }
        }
    }

    /// The chunks of a piece.
    pub fn piece(&mut self, piece: &Piece) -> Vec<Value> {
        let logprobs = self.logprobs(piece.logprob.as_slice());
        if self.info.endpoint == Endpoint::Completions {
            return vec![self.delta(piece.choice, &piece.text, logprobs, None)];
        }
        let deltas = self.outputs[piece.choice].push(piece);
        self.deltas(piece.choice, &deltas, logprobs)
    }

    /// The chunks of what a chat's answer goes on with; the first has the probabilities.
    fn deltas(&self, index: usize, deltas: &[Delta], mut logprobs: Value) -> Vec<Value> {
        let mut deltas: Vec<Value> = deltas.iter().map(Delta::json).collect();
        if deltas.is_empty() && !logprobs.is_null() {
            deltas.push(json!({"content": ""}));
        }
        let chunk = |delta| {
            self.chunk(json!({
                "index": index, "delta": delta, "logprobs": logprobs.take(), "finish_reason": null,
            }))
        };
        deltas.into_iter().map(chunk).collect()
    }

    /// The chunks that end an answer.
    pub fn finished(&mut self, index: usize, finish: &Finish) -> Vec<Value> {
        let deltas = match self.info.endpoint {
            Endpoint::Chat => self.outputs[index].finish(),
            Endpoint::Completions => Vec::new(),
        };
        let mut chunks = self.deltas(index, &deltas, Value::Null);
        chunks.push(self.delta(index, "", Value::Null, Some(finish)));
        chunks
    }

    /// The last chunk of a stream, where usage was asked for.
    pub fn closing(&self) -> Option<Value> {
        self.info.include_usage.then(|| {
            let mut last = self.envelope(true, Vec::new());
            let reasoning = self.outputs.iter().map(|output| output.reasoning_tokens);
            last.insert("usage".into(), self.usage(reasoning.sum()));
            last.into()
        })
    }

    /// A token's text, in which incomplete characters are replaced, and its bytes.
    fn token(&self, id: u32) -> (String, Vec<u8>) {
        let bytes = self.app.text.tokenizer.token_bytes(id).unwrap_or_default();
        (
            String::from_utf8_lossy(&bytes).into_owned(),
            bytes.into_owned(),
        )
    }

    /// A token's text, or its bytes in hexadecimal where they are not valid UTF-8.
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

    fn logprobs(&self, tokens: &[TokenLogprob]) -> Value {
        if tokens.is_empty() {
            return Value::Null;
        }
        match self.info.endpoint {
            Endpoint::Chat => {
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
            Endpoint::Completions => {
                let top = tokens.iter().map(|token| {
                    let all = token
                        .top
                        .iter()
                        .map(|(id, p)| (self.token_name(*id), json!(p)));
                    Value::from(Map::from_iter(all))
                });
                json!({
                    "text_offset": tokens.iter().map(|t| t.at).collect::<Vec<_>>(),
                    "token_logprobs": tokens.iter().map(|t| t.logprob).collect::<Vec<_>>(),
                    "top_logprobs": top.collect::<Vec<_>>(),
                    "tokens": tokens.iter().map(|t| self.token_name(t.token)).collect::<Vec<_>>(),
                })
            }
        }
    }
}

fn reason(finish: &Finish, calls: usize) -> &'static str {
    match finish {
        Finish::EndToken | Finish::Stop(_) | Finish::Stopped if calls > 0 => "tool_calls",
        Finish::EndToken | Finish::Stop(_) | Finish::Stopped => "stop",
        Finish::MaxTokens | Finish::ContextFull => "length",
    }
}
