//! How the model that is served talks: what its chat template shows of tools and thoughts.

use super::reasoning::Thinking;
use super::tools::markers;
use crate::tool_format::ToolFormat;
use selfextend::chat_template::{Abilities, ChatTemplate};
use selfextend::tokenizer::Tokenizer;
use std::collections::HashMap;

/// What is known of it once the model is loaded.
#[derive(Debug)]
pub struct ChatStyle {
    /// How it writes calls.
    pub format: ToolFormat,
    /// What its template makes of tools.
    pub abilities: Abilities,
    /// How it thinks, if it does.
    pub thinking: Option<Thinking>,
    /// Control tokens by their text, of those that stand around calls and thoughts.
    tokens: HashMap<&'static str, u32>,
}

impl ChatStyle {
    /// From the template's text, with another format of calls where one is given.
    pub fn new(
        template: Option<&ChatTemplate>,
        tokenizer: &Tokenizer,
        format: Option<ToolFormat>,
    ) -> Self {
        let source = template.map_or("", |template| template.source());
        let abilities = template.map(|template| template.abilities());
        let format = format.or_else(|| ToolFormat::of_template(source));
        let format = format.unwrap_or(ToolFormat::Hermes);
        let thinking = Thinking::of_template(source);
        let mut texts = markers(format).to_vec();
        texts.extend(thinking.iter().flat_map(|it| [it.open, it.close]));
        Self {
            format,
            abilities: abilities.unwrap_or_default(),
            thinking,
            tokens: control_tokens(tokenizer, &texts),
        }
    }

    /// The id of the control token that is written so, if there is one.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.tokens.get(text).copied()
    }

    /// Control tokens that are a part of answers.
    pub fn shown(&self) -> Vec<u32> {
        self.tokens.values().copied().collect()
    }
}

fn control_tokens(tokenizer: &Tokenizer, texts: &[&'static str]) -> HashMap<&'static str, u32> {
    let ids = 0..tokenizer.vocab_size() as u32;
    let control = ids.filter(|id| tokenizer.is_control(*id));
    let known = control.filter_map(|id| {
        let text = tokenizer.token_text(id)?;
        let found = texts.iter().find(|known| **known == text)?;
        Some((*found, id))
    });
    known.collect()
}
