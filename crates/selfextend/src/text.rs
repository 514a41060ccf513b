//! The front door: a model together with what turns text into its tokens and back.

use crate::chat_prompt::{encode_chat, encode_conversation};
use crate::chat_template::{ChatTemplate, Conversation, Message};
use crate::error::{Error, Result};
use crate::generate::{Answer, GenerateOptions};
use crate::model::Model;
use crate::model_file::ModelFile;
use crate::options::LoadOptions;
use crate::request::ContextRequest;
use crate::session::Session;
use crate::tokenizer::Tokenizer;
use std::path::Path;

/// A model, its tokenizer and its chat template, all from one file.
///
/// ```no_run
/// use selfextend::{GenerateOptions, TextModel};
///
/// # fn main() -> Result<(), selfextend::Error> {
/// let model = TextModel::open("smollm2-135m")?;
/// let mut session = model.session(32_768)?;
/// let options = GenerateOptions::new().with_max_tokens(100);
/// for piece in model.answer(&mut session, "Why is the sky blue?", &options)? {
///     print!("{}", piece?);
/// }
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct TextModel {
    /// The model.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template, where the file has one. One that cannot be used says so when a chat is asked
    /// for, and before in [`ChatTemplate::fault`].
    pub template: Option<ChatTemplate>,
}

impl TextModel {
    /// Loads a model by its path, or by its name with the cargo feature `hub`: a known model or an
    /// id of the Hugging Face hub, fetched first if it is not on this machine (see `hub::resolve`).
    ///
    /// # Errors
    /// A model that cannot be found or fetched, and those of [`TextModel::load`].
    pub fn open(path_or_name: &str) -> Result<Self> {
        #[cfg(feature = "hub")]
        {
            use crate::hub::{PullOptions, resolve};
            let path = resolve(path_or_name, &PullOptions::from_env()?, &mut |_| {})?;
            Self::load(path, LoadOptions::default())
        }
        #[cfg(not(feature = "hub"))]
        Self::load(path_or_name, LoadOptions::default())
    }

    /// Loads a GGUF file, or a folder of safetensors files with their config.json and
    /// tokenizer.json.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or holds a model or tokenizer this version cannot
    /// use.
    pub fn load(path: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        let file = ModelFile::open(path.as_ref())?.ignoring(&options.ignored_keys);
        // The model first: an unsupported architecture is named before its tokenizer is.
        let model = Model::from_file(&file, options)?;
        let tokenizer = file.tokenizer()?;
        let token = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_text(id))
                .unwrap_or_default()
        };
        let template = file.template(token(tokenizer.bos()), token(tokenizer.eos()));
        Ok(Self {
            model,
            tokenizer,
            template,
        })
    }

    /// An empty session for at most `context` tokens: plain attention within the trained window,
    /// SelfExtend with settings chosen for the context beyond it. For other methods and settings, give
    /// [`Model::session`] an [`Extension`](crate::Extension).
    ///
    /// # Errors
    /// A context of 0 tokens, and those of [`Model::session`].
    pub fn session(&self, context: usize) -> Result<Session> {
        let request = ContextRequest::new().with_context(context);
        let trained = self.model.config().trained_window;
        self.model.session(request.resolve(trained)?)
    }

    /// Answers a prompt: a user's message where the model has a chat template, else a text to
    /// continue. The session is emptied first, so that every call stands alone; for a conversation
    /// that keeps its KV cache, encode it with [`TextModel::encode_chat`] and call
    /// [`TextModel::answer_tokens`].
    ///
    /// # Errors
    /// A prompt that cannot be turned into tokens or does not fit the session's context, sampling
    /// settings outside their range, and what the model's pass returns.
    pub fn answer<'a>(
        &'a self,
        session: &'a mut Session,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<Answer<'a>> {
        let tokens = self.encode_prompt(prompt)?;
        let _ = session.truncate(0);
        self.answer_tokens(session, &tokens, options)
    }

    /// Appends tokens to what the session holds and generates what follows. The repetition penalty
    /// counts these tokens, not those that the session held before.
    ///
    /// # Errors
    /// No tokens, and those of [`Session::append`] and [`Answer::new`].
    pub fn answer_tokens<'a>(
        &'a self,
        session: &'a mut Session,
        tokens: &[u32],
        options: &GenerateOptions,
    ) -> Result<Answer<'a>> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let logits = session.append(tokens)?;
        Answer::new(session, &self.tokenizer, tokens, logits, options)
    }

    /// The tokens of a prompt: a user's message in the chat template where there is one, else the
    /// text after the beginning-of-text token where the model wants one.
    ///
    /// # Errors
    /// Text the tokenizer cannot take, or the template refuses.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let message = Message {
            role: "user".into(),
            content: prompt.into(),
        };
        match self.encode_chat(&[message])? {
            Some(tokens) => Ok(tokens),
            None => self.encode(prompt),
        }
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

    /// As [`TextModel::encode`], but the text of special tokens stands for them, as in a prompt whose
    /// markup is written out; a text that begins with the beginning-of-text token gets no second one.
    ///
    /// # Errors
    /// Text the tokenizer cannot take.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode_with_special(text)?;
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        if let Some(bos) = bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
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

    /// The tokens of a conversation with tools and variables for the template, up to where it says
    /// that the prompt ends; `None` without a chat template. Control tokens written in it stay plain
    /// text.
    ///
    /// # Errors
    /// As [`TextModel::encode_chat`], and a last message that cannot be continued.
    pub fn encode_conversation(&self, conversation: &Conversation) -> Result<Option<Vec<u32>>> {
        let Some(template) = &self.template else {
            return Ok(None);
        };
        let ids = encode_conversation(&self.tokenizer, template, conversation)?;
        Ok(Some(ids))
    }
}
