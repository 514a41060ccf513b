//! The bodies of requests, after OpenAI's API, and their limits.

use super::error::ApiError;
use super::fields::{Biases, Few, Given, Logprobs, Prompts, TextOr};
use super::grammar::{Choices, Guides, ResponseFormat, StructuredOutputs};
use super::harmless::is_harmless;
use super::numbers::{count_or_all, count_or_room, whole};
#[cfg(any(test, feature = "unstable"))]
use super::texts::{Detokenize, Tokenize};
use super::tools::MOST_TOOLS;
use crate::constrain::Grammar;
use selfextend::Sampling;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The most messages of a chat, and parts of one of them.
const MOST_MESSAGES: usize = 4096;
const MOST_PARTS: usize = 1024;
/// The most calls of a message.
const MOST_CALLS: usize = 1024;
/// The most stop texts, and the longest in bytes.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;

/// Both kinds of completions; each refuses what belongs to the other. A field that is not here is
/// refused by name, as OpenAI's servers do, unless `harmless` has it: who sends it counts on it.
#[derive(Debug, Default, Deserialize)]
pub struct Completion {
    pub model: Option<String>,
    pub messages: Option<Few<ChatMessage, MOST_MESSAGES>>,
    pub prompt: Option<Prompts>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    #[serde(default, deserialize_with = "whole")]
    pub n: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    pub best_of: Option<usize>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    #[serde(default, deserialize_with = "count_or_all")]
    pub top_k: Option<usize>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Option<Biases>,
    #[serde(default, deserialize_with = "whole")]
    pub seed: Option<i64>,
    pub stop: Option<TextOr<String, MOST_STOPS>>,
    #[serde(default, deserialize_with = "count_or_room")]
    pub max_tokens: Option<usize>,
    #[serde(default, deserialize_with = "count_or_room")]
    pub max_completion_tokens: Option<usize>,
    pub logprobs: Option<Logprobs>,
    #[serde(default, deserialize_with = "whole")]
    pub top_logprobs: Option<usize>,
    pub echo: Option<bool>,
    /// Whether special tokens written in `prompt` stand for themselves. They do by default, as in
    /// llama.cpp's server and those on the `tokenizers` package.
    pub parse_special: Option<bool>,
    pub suffix: Option<String>,
    pub response_format: Option<ResponseFormat>,
    pub tools: Option<Few<Box<RawValue>, MOST_TOOLS>>,
    pub tool_choice: Option<Box<RawValue>>,
    pub parallel_tool_calls: Option<bool>,
    pub reasoning_effort: Option<String>,
    pub include_reasoning: Option<bool>,
    pub chat_template_kwargs: Option<serde_json::Value>,
    pub continue_final_message: Option<bool>,
    pub add_generation_prompt: Option<bool>,
    #[serde(default)]
    pub functions: Given,
    #[serde(default)]
    pub function_call: Given,
    #[serde(default)]
    pub audio: Given,
    pub modalities: Option<Few<String, 8>>,
    /// Whether end tokens are never drawn.
    pub ignore_eos: Option<bool>,
    pub guided_json: Option<Box<RawValue>>,
    pub guided_regex: Option<String>,
    pub guided_choice: Option<Choices>,
    pub guided_grammar: Option<String>,
    pub structured_outputs: Option<StructuredOutputs>,
}

/// A message. What would not be shown to the model is refused unless it is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    pub role: String,
    pub content: Option<TextOr<ContentPart, MOST_PARTS>>,
    pub name: Option<String>,
    pub tool_calls: Option<Few<ToolCallIn, MOST_CALLS>>,
    #[serde(default)]
    pub function_call: Given,
    pub tool_call_id: Option<String>,
    #[serde(default)]
    pub refusal: Given,
    pub reasoning_content: Option<String>,
    pub reasoning: Option<String>,
    #[serde(default)]
    pub audio: Given,
    #[serde(default)]
    pub annotations: Given,
}

/// A call in an assistant's message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCallIn {
    pub id: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub function: FunctionCallIn,
    /// Left over from a stream.
    #[serde(default, rename = "index")]
    _index: IgnoredAny,
}

impl ToolCallIn {
    /// A call with its identifier.
    pub fn new(id: String, function: FunctionCallIn) -> Self {
        Self {
            id: Some(id),
            kind: None,
            function,
            _index: IgnoredAny,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionCallIn {
    pub name: String,
    /// The text of an object, or an object.
    pub arguments: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub struct ContentPart {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    pub include_usage: Option<bool>,
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: IgnoredAny,
}

/// Reads a body; an error names the field that is wrong.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Editors on Windows begin files with a byte-order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        // serde accepts a list as the values of an object in order.
        return Err(ApiError::bad_request("the body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path| {
        if let serde_ignored::Path::Map { parent, key } = path
            && matches!(parent, serde_ignored::Path::Root)
            && unknown.is_none()
            && !is_harmless(&key)
        {
            unknown = Some(key);
        }
    };
    let noting = serde_ignored::Deserializer::new(&mut reader, &mut note);
    let value = serde_path_to_error::deserialize(noting).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.to_string().starts_with("unknown field `") {
            unknown_field(&path)
        } else if inner.is_data() && path != "." {
            ApiError::parameter(&*path, format!("{path}: {inner}"))
        } else {
            ApiError::bad_request(format!("the body is not valid JSON: {inner}"))
        }
    })?;
    let rest = reader.end();
    rest.map_err(|error| ApiError::bad_request(format!("after the JSON body: {error}")))?;
    match unknown {
        Some(name) => Err(unknown_field(&name)),
        None => Ok(value),
    }
}

fn unknown_field(path: &str) -> ApiError {
    let name: String = path.chars().take(100).collect();
    let message = format!("{name} is not a parameter of this server; leave it out");
    ApiError::unsupported(name, message)
}

/// Reads a body as each of the routes would, and everything in it.
#[cfg(feature = "unstable")]
pub fn read_all(body: &[u8]) {
    let _ = parse::<Tokenize>(body);
    let _ = parse::<Detokenize>(body);
    let Ok(mut body) = parse::<Completion>(body) else {
        return;
    };
    let _ = (
        body.refuse_unsupported(),
        body.sampling(1000, Sampling::default()),
        body.stops(),
    );
    let _ = (
        body.max_tokens(true),
        body.top_logprobs(true),
        body.top_logprobs(false),
    );
    let _ = body.schema();
}

impl Completion {
    /// A chat that says nothing else.
    pub fn of_chat(messages: Vec<ChatMessage>, tools: Vec<Box<RawValue>>) -> Self {
        Self {
            messages: Some(Few(messages)),
            tools: Some(Few(tools)),
            ..Self::default()
        }
    }

    /// Refuses parameters that would change the answer but are not supported.
    pub fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let refused = [
            ("functions", self.functions.0),
            ("function_call", self.function_call.0),
            ("audio", self.audio.0),
            (
                "modalities",
                self.modalities
                    .as_ref()
                    .is_some_and(|kinds| kinds.0.iter().any(|kind| kind != "text")),
            ),
            (
                "best_of",
                self.best_of.is_some_and(|best| best != self.n.unwrap_or(1)),
            ),
        ];
        match refused.into_iter().find(|(_, given)| *given) {
            _ if self.ignore_eos == Some(true) && self.is_guided() => {
                let message = "ignore_eos would let an answer that is held to a grammar never end; leave one out";
                Err(ApiError::parameter("ignore_eos", message))
            }
            Some((name, _)) => {
                let message = format!("`{name}` is not supported by this server; leave it out");
                Err(ApiError::unsupported(name, message))
            }
            None => Ok(()),
        }
    }

    /// Refuses what only chats have.
    pub fn refuse_chat(&self) -> Result<(), ApiError> {
        let refused = [
            (
                "tools",
                self.tools.as_ref().is_some_and(|tools| !tools.0.is_empty()),
            ),
            ("tool_choice", self.tool_choice.is_some()),
            ("parallel_tool_calls", self.parallel_tool_calls.is_some()),
            ("reasoning_effort", self.reasoning_effort.is_some()),
            ("chat_template_kwargs", self.chat_template_kwargs.is_some()),
            (
                "continue_final_message",
                self.continue_final_message.is_some(),
            ),
            (
                "add_generation_prompt",
                self.add_generation_prompt.is_some(),
            ),
            ("include_reasoning", self.include_reasoning.is_some()),
        ];
        match refused.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => {
                let message = format!("{name} belongs to /v1/chat/completions; leave it out");
                Err(ApiError::unsupported(name, message))
            }
            None => Ok(()),
        }
    }

    /// The sampling settings, each within its range; where the request has none, those given.
    pub fn sampling(&self, vocab: usize, defaults: Sampling) -> Result<Sampling, ApiError> {
        let within = |name: &str, value: Option<f32>, low: f32, high: f32, default: f32| {
            let Some(value) = value else {
                return Ok(default);
            };
            if (low..=high).contains(&value) {
                return Ok(value);
            }
            let message = format!("{name} must be between {low} and {high}, not {value}");
            Err(ApiError::parameter(name, message))
        };
        let top_p = within("top_p", self.top_p, 0.0, 1.0, defaults.top_p)?;
        let temperature = within(
            "temperature",
            self.temperature,
            0.0,
            2.0,
            defaults.temperature,
        )?;
        let min_p = within("min_p", self.min_p, 0.0, 1.0, defaults.min_p)?;
        let top_k = self.top_k.unwrap_or(defaults.top_k);
        let repetition = within(
            "repetition_penalty",
            self.repetition_penalty,
            0.01,
            100.0,
            defaults.repetition_penalty,
        )?;
        let presence = within("presence_penalty", self.presence_penalty, -2.0, 2.0, 0.0)?;
        let frequency = within("frequency_penalty", self.frequency_penalty, -2.0, 2.0, 0.0)?;
        Ok(defaults
            // A top_p of 0 leaves only the most probable token.
            .with_temperature(if top_p == 0.0 { 0.0 } else { temperature })
            .with_top_p(if top_p == 0.0 { 1.0 } else { top_p })
            .with_top_k(top_k)
            .with_min_p(min_p)
            .with_repetition_penalty(repetition)
            .with_presence_penalty(presence)
            .with_frequency_penalty(frequency)
            .with_bias(self.bias(vocab)?)
            // -1 asks for any seed, as in llama.cpp's server and vLLM.
            .with_seed(match self.seed {
                None | Some(-1) => rand::random(),
                Some(seed) => seed as u64,
            }))
    }

    fn bias(&self, vocab: usize) -> Result<Vec<(u32, f32)>, ApiError> {
        let read = |(id, bias): &(String, f32)| {
            let token = id.parse().ok().filter(|id: &u32| (*id as usize) < vocab);
            match token {
                Some(token) if (-100.0..=100.0).contains(bias) => Ok((token, *bias)),
                _ => Err(ApiError::parameter(
                    "logit_bias",
                    format!(
                        "logit_bias: {id:?}: {bias} must be a token id below {vocab} and a number between -100 and 100"
                    ),
                )),
            }
        };
        let entries = self.logit_bias.iter().flat_map(|biases| &biases.0);
        // Of entries for one token the last counts, as in any JSON object.
        let biases: BTreeMap<u32, f32> = entries.map(read).collect::<Result<_, _>>()?;
        Ok(biases.into_iter().collect())
    }

    /// The texts that end an answer.
    pub fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = match &self.stop {
            None => Vec::new(),
            Some(TextOr::Text(stop)) => vec![stop.clone()],
            Some(TextOr::List(stops)) => stops.clone(),
        };
        if stops.iter().any(|stop| stop.len() > LONGEST_STOP) {
            let message = format!("stop: a text is longer than {LONGEST_STOP} bytes");
            return Err(ApiError::parameter("stop", message));
        }
        // As vLLM does: it would end every answer at once.
        if stops.iter().any(String::is_empty) {
            let message = "stop: a text is empty; leave it out";
            return Err(ApiError::parameter("stop", message));
        }
        Ok(stops)
    }

    /// The limit on the tokens of an answer, where the request sets one.
    pub fn max_tokens(&self, chat: bool) -> Result<Option<usize>, ApiError> {
        let (name, value) = match self.max_completion_tokens {
            Some(value) => ("max_completion_tokens", Some(value)),
            None => ("max_tokens", self.max_tokens),
        };
        match value {
            // A completion of no tokens says how probable its prompt is.
            Some(0) if chat => Err(ApiError::parameter(
                name,
                format!("{name} must be at least 1"),
            )),
            value => Ok(value),
        }
    }

    /// How many of the most probable tokens to report with each token.
    pub fn top_logprobs(&self, chat: bool) -> Result<Option<usize>, ApiError> {
        let most = if chat { 20 } else { 5 };
        let wanted = match (self.logprobs, self.top_logprobs) {
            (None | Some(Logprobs::Flag(false)), None | Some(0)) => None,
            (None | Some(Logprobs::Flag(false)), Some(_)) => {
                let message = "top_logprobs needs logprobs to be true";
                return Err(ApiError::parameter("top_logprobs", message));
            }
            (Some(Logprobs::Flag(true)), top) if chat => Some(top.unwrap_or(0)),
            (Some(Logprobs::Count(count)), _) if !chat => Some(count),
            _ => {
                let message = "logprobs is true or false for chats, a number for completions";
                return Err(ApiError::parameter("logprobs", message));
            }
        };
        if wanted.is_some_and(|wanted| wanted > most) {
            let message = format!("at most {most} most probable tokens are reported");
            return Err(ApiError::parameter("top_logprobs", message));
        }
        Ok(wanted)
    }

    /// The JSON schema that the answer must follow, if any.
    pub fn schema(&mut self) -> Result<Option<serde_json::Value>, ApiError> {
        match &mut self.response_format {
            Some(format) => format.schema(),
            None => Ok(None),
        }
    }

    fn is_guided(&self) -> bool {
        let format = self.response_format.as_ref();
        format.is_some_and(|format| format.kind != "text")
            || self.guided_json.is_some()
            || self.guided_regex.is_some()
            || self.guided_choice.is_some()
            || self.guided_grammar.is_some()
            || self.structured_outputs.is_some()
    }

    /// The grammar that the answer must follow beside a schema of its format, with its field's name.
    pub fn grammar(&mut self) -> Result<Option<(&'static str, Grammar)>, ApiError> {
        let guides = Guides {
            json: self.guided_json.take(),
            regex: self.guided_regex.take(),
            choice: self.guided_choice.take(),
            grammar: self.guided_grammar.take(),
            structured: self.structured_outputs.take(),
        };
        guides.read()
    }

    /// What comes after the answer, where it fills a gap.
    pub fn suffix(&self) -> Option<&str> {
        self.suffix.as_deref().filter(|suffix| !suffix.is_empty())
    }
}

impl ChatMessage {
    /// Its role, one of those that templates know: they build markup out of them.
    pub fn known_role(&self, n: usize) -> Result<&'static str, ApiError> {
        let known = ["system", "user", "assistant", "tool"];
        match known.into_iter().find(|known| *known == self.role) {
            Some(role) => Ok(role),
            None if self.role == "developer" => Ok("system"),
            None => Err(ApiError::parameter(
                format!("messages[{n}].role"),
                format!(
                    "role {:?} is none of system, developer, user, assistant, tool",
                    self.role
                ),
            )),
        }
    }

    /// Refuses what would not be shown to the model.
    pub fn refuse_unread(&self, n: usize) -> Result<(), ApiError> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let (assistant, tool) = (self.role == "assistant", self.role == "tool");
        let calls = self
            .tool_calls
            .as_ref()
            .is_some_and(|calls| !calls.0.is_empty());
        let unread = [
            ("name", given(&self.name) && !tool),
            ("tool_calls", calls && !assistant),
            ("function_call", self.function_call.0),
            ("tool_call_id", given(&self.tool_call_id) && !tool),
            ("refusal", self.refusal.0),
            (
                "reasoning_content",
                given(&self.reasoning_content) && !assistant,
            ),
            ("reasoning", given(&self.reasoning) && !assistant),
            ("audio", self.audio.0),
            ("annotations", self.annotations.0),
        ];
        match unread.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(ApiError::unsupported(
                format!("messages[{n}].{field}"),
                format!(
                    "messages[{n}].{field} would not be shown to the model; write it into the content, or leave it out"
                ),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
