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
    /// The prompt's first token, whose probability is unknown, where the prompt's are reported.
    first: Option<u32>,
    /// Characters of an echoed prompt.
    before: usize,
    pub logprobs: Vec<TokenLogprob>,
    pub finish: Option<Finish>,
}

impl Answer {
    /// An answer that begins with a text.
    fn new(text: String, first: Option<u32>, output: Output) -> Self {
        Self {
            before: text.chars().count(),
            text,
            message: Message::default(),
            output,
            first,
            logprobs: Vec::new(),
            finish: None,
        }
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        let deltas = self.output.push(&piece);
        self.message.extend(deltas);
        let before = self.before;
        let logprob = piece.logprob.map(|logprob| after(before, logprob));
        self.logprobs.extend(logprob);
    }

    /// Takes the probabilities of the prompt's tokens.
    pub fn echoed(&mut self, logprobs: &[TokenLogprob]) {
        self.logprobs.extend_from_slice(logprobs);
    }

    /// Ends it.
    pub fn end(&mut self, finish: Finish) {
        let deltas = self.output.finish();
        self.message.extend(deltas);
        self.finish = Some(finish);
    }
}

/// The same behind so many characters.
fn after(characters: usize, mut logprob: TokenLogprob) -> TokenLogprob {
    logprob.at += characters;
    logprob
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

    /// Answers to each prompt.
    pub fn choices(&self) -> usize {
        self.info.n
    }

    /// An answer before anything is generated of it.
    pub fn answer(&self, index: usize) -> Answer {
        let prompt = index / self.info.n;
        let text = self.info.echo.get(prompt).cloned().unwrap_or_default();
        let first = self.info.first_tokens.get(prompt).copied();
        Answer::new(text, first, Output::new(&self.info.output))
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
        let mut usage = json!({
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
        });
        if let Some(most) = self.info.clamped {
            usage["selfextend"]["max_tokens_clamped_to"] = json!(most);
        }
        usage
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
            let logprobs = self.logprobs(answer.first, &answer.logprobs);
            let mut choice = json!({
                "index": index,
                "logprobs": logprobs,
                "finish_reason": answer.finish.as_ref().map(|it| reason(it, answer.output.calls)),
                "stop_reason": answer.finish.as_ref().and_then(stop_reason),
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
        if let Some(finish) = finish {
            choice["stop_reason"] = json!(stop_reason(finish));
        }
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
                // With probabilities, the prompts follow as soon as they are read.
                let is_told = !self.info.first_tokens.is_empty();
                let answers = answers.filter(|_| !is_told);
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
        let logprob = piece.logprob.clone().map(|logprob| {
            let echo = self.info.echo.get(piece.choice / self.info.n);
            after(echo.map_or(0, |echo| echo.chars().count()), logprob)
        });
        let logprobs = self.logprobs(None, logprob.as_slice());
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

    /// The chunks of a prompt's text with its probabilities, one for each of its answers.
    pub fn echoed(&self, first_choice: usize, logprobs: &[TokenLogprob]) -> Vec<Value> {
        let answers = first_choice..first_choice + self.info.n;
        answers
            .map(|index| {
                let Answer { text, first, .. } = self.answer(index);
                self.delta(index, &text, self.logprobs(first, logprobs), None)
            })
            .collect()
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

    fn logprobs(&self, first: Option<u32>, tokens: &[TokenLogprob]) -> Value {
        if tokens.is_empty() && first.is_none() {
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
                let mut lists = [const { Vec::new() }; 4];
                let mut add = |entry: [Value; 4]| {
                    lists
                        .iter_mut()
                        .zip(entry)
                        .for_each(|(list, value)| list.push(value));
                };
                // Nothing stands before a prompt's first token that could make it probable.
                if let Some(id) = first {
                    add([
                        json!(0),
                        Value::Null,
                        Value::Null,
                        json!(self.token_name(id)),
                    ]);
                }
                for token in tokens {
                    let top = token.top.iter();
                    let top = top.map(|(id, p)| (self.token_name(*id), json!(p)));
                    let top = Value::from(Map::from_iter(top));
                    let name = json!(self.token_name(token.token));
                    add([json!(token.at), json!(token.logprob), top, name]);
                }
                let [offsets, logprobs, top, names] = lists;
                json!({
                    "text_offset": offsets, "token_logprobs": logprobs, "top_logprobs": top,
                    "tokens": names,
                })
            }
        }
    }
}

/// The stop text that ended an answer, as vLLM reports it.
fn stop_reason(finish: &Finish) -> Option<&str> {
    match finish {
        Finish::Stop(text) => Some(text),
        _ => None,
    }
}

fn reason(finish: &Finish, calls: usize) -> &'static str {
    match finish {
        Finish::EndToken | Finish::Stop(_) | Finish::Stopped if calls > 0 => "tool_calls",
        Finish::EndToken | Finish::Stop(_) | Finish::Stopped => "stop",
        Finish::MaxTokens | Finish::ContextFull => "length",
    }
}
