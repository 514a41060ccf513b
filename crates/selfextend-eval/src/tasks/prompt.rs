//! From a text to the tokens of a prompt.

use crate::error::{EvalError, Result};
use selfextend::TextModel;
use selfextend::chat_template::{ChatTemplate, Message};

/// Turns text into the tokens a model is asked with.
pub struct Prompter<'a> {
    model: &'a TextModel,
    chat: bool,
}

impl<'a> Prompter<'a> {
    /// With `chat`, texts become a user's message under the model's chat template.
    ///
    /// # Errors
    /// `chat` with a model that has no chat template, or one that cannot be used.
    pub fn new(model: &'a TextModel, chat: bool) -> Result<Self> {
        if chat && model.template.is_none() {
            return Err(EvalError::settings(
                "the model has no chat template: ask without one",
            ));
        }
        let fault = model.template.as_ref().and_then(ChatTemplate::fault);
        match fault.filter(|_| chat) {
            Some(fault) => Err(selfextend::Error::from(fault.clone()).into()),
            None => Ok(Self { model, chat }),
        }
    }

    /// Whether texts become messages.
    pub(crate) fn is_chat(&self) -> bool {
        self.chat
    }

    /// The model.
    pub fn model(&self) -> &TextModel {
        self.model
    }

    /// The tokens of a text and of the words with which the answer begins.
    ///
    /// # Errors
    /// Text the tokenizer cannot encode, a conversation the template refuses.
    pub fn tokens(&self, text: &str, answer_prefix: &str) -> Result<Vec<u32>> {
        if !self.chat {
            return Ok(self.model.encode(&format!("{text}{answer_prefix}"))?);
        }
        let message = Message {
            role: "user".into(),
            content: text.into(),
        };
        let mut tokens = self.model.encode_chat(&[message])?.unwrap_or_default();
        if !answer_prefix.is_empty() {
            // The template ends where a word starts.
            let prefix = self.model.tokenizer.encode(answer_prefix.trim_start());
            tokens.extend(prefix.map_err(selfextend::Error::from)?);
        }
        Ok(tokens)
    }

    /// The tokens of a conversation, up to where its next answer begins.
    ///
    /// # Errors
    /// Text the tokenizer cannot encode, a conversation the template refuses.
    pub fn conversation(&self, messages: &[Message]) -> Result<Vec<u32>> {
        if self.chat {
            return Ok(self.model.encode_chat(messages)?.unwrap_or_default());
        }
        let said = messages
            .iter()
            .map(|Message { role, content }| format!("{role}: {content}\n\n"));
        Ok(self
            .model
            .encode(&format!("{}assistant: ", said.collect::<String>()))?)
    }

    /// The tokens with which `answer` continues the words that begin an answer.
    ///
    /// # Errors
    /// Text the tokenizer cannot encode.
    pub fn continuation(&self, answer_prefix: &str, answer: &str) -> Result<Vec<u32>> {
        let encode = |text: &str| {
            let tokens = self.model.tokenizer.encode(text);
            tokens.map_err(selfextend::Error::from)
        };
        let (prefix, whole) = (
            encode(answer_prefix)?,
            encode(&format!("{answer_prefix}{answer}"))?,
        );
        match whole.strip_prefix(&*prefix) {
            Some(rest) if !rest.is_empty() => Ok(rest.to_vec()),
            // The tokenizer joins them where they meet: what is asked ends in its own tokens.
            _ => Ok(encode(answer)?),
        }
    }
}
