//! A conversation, and whatever else a template is given with it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Variables that every template gets, under names that no variable of a request may take.
pub const RESERVED: [&str; 6] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
];

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Where a prompt ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// Where the assistant is to answer (`add_generation_prompt`).
    #[default]
    Answer,
    /// Behind the last message.
    LastMessage,
    /// Inside of the last message, which the model is to continue (`continue_final_message`).
    Inside,
}

/// A conversation as `transformers.apply_chat_template` takes it: messages that may hold more than a
/// text, functions that the model may call, and variables of the template's own.
///
/// ```
/// use selfextend::chat_template::Conversation;
///
/// let message = std::collections::BTreeMap::from([("role", "user"), ("content", "Hi")]);
/// let conversation = Conversation::new([message])?.with_variable("enable_thinking", false)?;
/// # Ok::<_, selfextend::chat_template::NotData>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Vec<Value>,
    pub(crate) variables: Map<String, Value>,
    pub(crate) ending: Ending,
}

/// A value that cannot be written as JSON was given to a template.
#[derive(Debug, thiserror::Error)]
#[error("a value for the chat template cannot be written as JSON: {0}")]
pub struct NotData(#[source] serde_json::Error);

impl Conversation {
    /// Messages, each an object with a `role`, in the order of their keys.
    ///
    /// # Errors
    /// Messages that cannot be written as JSON.
    pub fn new(messages: impl IntoIterator<Item = impl Serialize>) -> Result<Self, NotData> {
        Ok(Self {
            messages: values(messages)?,
            ..Self::default()
        })
    }

    /// Messages that are texts.
    pub(crate) fn of_texts(messages: &[Message]) -> Self {
        let message = |message: &Message| {
            let pair = |name: &str, text: &String| (name.to_owned(), Value::from(text.clone()));
            let pairs = [
                pair("role", &message.role),
                pair("content", &message.content),
            ];
            Value::Object(pairs.into_iter().collect())
        };
        Self {
            messages: messages.iter().map(message).collect(),
            ..Self::default()
        }
    }

    /// With functions that may be called, each in OpenAI's shape.
    ///
    /// # Errors
    /// Functions that cannot be written as JSON.
    pub fn with_tools(
        self,
        tools: impl IntoIterator<Item = impl Serialize>,
    ) -> Result<Self, NotData> {
        let tools = values(tools)?;
        Ok(Self { tools, ..self })
    }

    /// With a variable for the template, as `enable_thinking`. Names of [`RESERVED`] have no effect.
    ///
    /// # Errors
    /// A value that cannot be written as JSON.
    pub fn with_variable(
        mut self,
        name: impl Into<String>,
        value: impl Serialize,
    ) -> Result<Self, NotData> {
        let value = serde_json::to_value(value).map_err(NotData)?;
        self.variables.insert(name.into(), value);
        Ok(self)
    }

    /// With another end of the prompt.
    #[must_use]
    pub fn with_ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    /// Every text of it, keys included.
    pub(crate) fn for_each_text(&self, see: &mut dyn FnMut(&str)) {
        for value in self.messages.iter().chain(&self.tools) {
            texts(value, see);
        }
        for (name, value) in &self.variables {
            see(name);
            texts(value, see);
        }
    }
}

fn values(items: impl IntoIterator<Item = impl Serialize>) -> Result<Vec<Value>, NotData> {
    let items = items.into_iter();
    items
        .map(|item| serde_json::to_value(item).map_err(NotData))
        .collect()
}

fn texts(value: &Value, see: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, see)),
        Value::Object(pairs) => {
            for (key, value) in pairs {
                see(key);
                texts(value, see);
            }
        }
        _ => {}
    }
}
