//! The formats in which models write calls of functions.

use std::fmt;
use std::str::FromStr;

/// How a model writes a call of a function. It is found in the text of a chat template
/// ([`ToolFormat::of_template`]), which teaches the model its format or shows earlier calls in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen.
    Hermes,
    /// `<tool_call><function=...><parameter=...>...</parameter></function></tool_call>`: Qwen3-Coder.
    Qwen3Coder,
    /// `{"name": ..., "parameters": {...}}` as the whole answer: Llama 3.
    Llama3Json,
    /// `[name(key="value")]` as the whole answer: Llama 4, some tunings of Llama 3.2.
    Pythonic,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`: Mistral up to 2024.
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{...}`: Mistral since.
    MistralArgs,
    /// `{"name": ..., "arguments": {...}}` as the whole answer.
    Json,
}

/// A format that is none of the known ones.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a format of tool calls; there are {names}", names = names())]
pub struct UnknownToolFormat(String);

impl ToolFormat {
    /// All formats with their names.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("hermes", Self::Hermes),
        ("qwen3-coder", Self::Qwen3Coder),
        ("llama3-json", Self::Llama3Json),
        ("pythonic", Self::Pythonic),
        ("mistral", Self::Mistral),
        ("mistral-args", Self::MistralArgs),
        ("json", Self::Json),
    ];

    /// The format that a template's text shows; none where it shows no calls.
    ///
    /// ```
    /// use selfextend_server::ToolFormat;
    ///
    /// let template = r#"... return a json object within <tool_call></tool_call> XML tags ..."#;
    /// assert_eq!(ToolFormat::of_template(template), Some(ToolFormat::Hermes));
    /// ```
    #[must_use]
    pub fn of_template(template: &str) -> Option<Self> {
        // What a more special format has comes before what it shares with others.
        let signs: [(&[&str], Self); 8] = [
            (&["<function=", "<parameter="], Self::Qwen3Coder),
            (&["[TOOL_CALLS]", "[ARGS]"], Self::MistralArgs),
            (&["[TOOL_CALLS]"], Self::Mistral),
            (&["<tool_call>"], Self::Hermes),
            (
                &["{\"name\": function name, \"parameters\""],
                Self::Llama3Json,
            ),
            (&["<|python_tag|>", "\"parameters\""], Self::Llama3Json),
            (&["[func_name1("], Self::Pythonic),
            (&["\"name\": ", "\"arguments\": "], Self::Json),
        ];
        let shown = |signs: &[&str]| signs.iter().all(|sign| template.contains(sign));
        let found = signs.into_iter().find(|(signs, _)| shown(signs));
        found.map(|(_, format)| format)
    }
}

fn names() -> String {
    ToolFormat::NAMES.map(|(name, _)| name).join(", ")
}

impl FromStr for ToolFormat {
    type Err = UnknownToolFormat;

    fn from_str(name: &str) -> Result<Self, UnknownToolFormat> {
        let found = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        found
            .map(|(_, format)| format)
            .ok_or_else(|| UnknownToolFormat(name.to_owned()))
    }
}

impl fmt::Display for ToolFormat {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut all = Self::NAMES.into_iter();
        let name = all.find(|(_, format)| format == self);
        f.write_str(name.map_or("unknown", |(name, _)| name))
    }
}
