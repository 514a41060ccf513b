//! A model together with what turns text into its tokens and back.

use crate::chat_prompt::encode_chat;
use crate::chat_template::{ChatTemplate, Message};
use crate::error::Result;
use crate::model::{LoadOptions, Model};
use crate::model_file::ModelFile;
use crate::tokenizer::Tokenizer;
use std::path::Path;

/// A model, its tokenizer and its chat template, all from one file.
pub struct TextModel {
    /// The model.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template, where the file has one.
    pub template: Option<ChatTemplate>,
}

impl TextModel {
    /// Loads a GGUF file, or a folder of safetensors files with their config.json and
    /// tokenizer.json.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or holds a model or tokenizer this version cannot
    /// use.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self> {
        let file = ModelFile::open(path)?;
        // The model first: an unsupported architecture is named before its tokenizer is.
        let model = Model::from_file(&file, options)?;
        let tokenizer = file.tokenizer()?;
        let token = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_text(id))
                .unwrap_or_default()
        };
        let template = file
            .chat_template()?
            .map(|source| {
                ChatTemplate::new(&source, token(tokenizer.bos()), token(tokenizer.eos()))
            })
            .transpose()?;
        Ok(Self {
            model,
            tokenizer,
            template,
        })
    }

    /// The tokens of a text, after the beginning-of-text token where the model wants one.
    ///
    /// # Errors
    /// Text the tokenizer cannot take.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        let mut ids: Vec<u32> = bos.into_iter().collect();
        ids.extend(self.tokenizer.encode(text)?);
        Ok(ids)
    }

    /// The tokens of a conversation, up to where the model's answer begins; `None` without a
    /// chat template. Control tokens written in messages stay plain text.
    ///
    /// # Errors
    /// A conversation the template refuses.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Option<Vec<u32>>> {
        let Some(template) = &self.template else {
            return Ok(None);
        };
        Ok(Some(encode_chat(
            &self.tokenizer,
            template,
            messages,
            true,
        )?))
    }
}
