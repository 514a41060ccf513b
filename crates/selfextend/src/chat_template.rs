//! The prompt of a conversation, by the Jinja template that comes with a model.
//!
//! Templates are written for Hugging Face transformers; this renders them as it does, with
//! its settings, its functions (`raise_exception`, `strftime_now`, a `tojson` without HTML
//! escapes) and Python's methods.

mod abilities;
mod conversation;
mod float;
mod json;
mod python;
mod strings;
mod tags;
#[cfg(test)]
mod tests;

pub use abilities::Abilities;
pub use conversation::{Conversation, Ending, Message, NotData, RESERVED};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use std::collections::HashSet;
use std::sync::OnceLock;
pub use strings::is_digit;

const NAME: &str = "chat_template";

/// Steps after which a template is taken to never end. Real ones take some hundreds a message.
const MAX_STEPS: u64 = 50_000_000;

/// Why a template could not be read, or a conversation not be rendered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is not Jinja that can be read.
    #[error("the model's chat template does not parse: {message}; give a template of your own")]
    Syntax {
        /// What is wrong, and in which line.
        message: String,
    },
    /// The template fails whatever the conversation, or uses something that is not supported.
    #[error("the model's chat template is faulty: {message}; give a template of your own")]
    Fault {
        /// What went wrong, and in which line.
        message: String,
    },
    /// The template refuses the conversation, as some do with system messages or with two
    /// user messages in a row.
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The template failed on this conversation.
    #[error("the chat template fails on this conversation: {message}")]
    Render {
        /// What went wrong, and in which line.
        message: String,
    },
}

impl TemplateError {
    /// Whether the template is to blame, and no other conversation would do better.
    #[must_use]
    pub fn blames_template(&self) -> bool {
        matches!(self, Self::Syntax { .. } | Self::Fault { .. })
    }
}

/// A chat template, ready to render.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
    fault: Option<TemplateError>,
    abilities: OnceLock<Abilities>,
}

impl ChatTemplate {
    /// Reads a template, the value of `tokenizer.chat_template` in a GGUF file, and renders
    /// conversations as a trial: see [`fault`](Self::fault). `bos` and `eos` are the texts of
    /// those tokens, empty if the model has none.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Syntax`] if it does not parse.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let environment = environment(source).map_err(|error| TemplateError::Syntax {
            message: describe(&error),
        })?;
        let mut template = Self {
            environment,
            source: source.to_owned(),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            fault: None,
            abilities: OnceLock::new(),
        };
        template.fault = template.probe();
        Ok(template)
    }

    /// The template that comes with a model. One that does not parse is no fault of those who want no
    /// chat: it is remembered ([`fault`](Self::fault)), and told when a conversation is rendered.
    #[must_use]
    pub fn of_model(source: &str, bos: &str, eos: &str) -> Self {
        Self::new(source, bos, eos).unwrap_or_else(Self::faulty)
    }

    /// A template that cannot be read.
    pub(crate) fn faulty(fault: TemplateError) -> Self {
        Self {
            environment: Environment::new(),
            source: String::new(),
            bos: String::new(),
            eos: String::new(),
            fault: Some(fault),
            abilities: OnceLock::new(),
        }
    }

    /// The template as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Why no conversation can be rendered: the template cannot be read, or it failed on every one of
    /// the trial.
    #[must_use]
    pub fn fault(&self) -> Option<&TemplateError> {
        self.fault.as_ref()
    }

    /// The prompt for `messages`; with `add_generation_prompt` it ends where the assistant
    /// is to answer.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Refused`] if the template does not accept the conversation,
    /// [`TemplateError::Fault`] if it would fail on any, [`TemplateError::Render`] if it fails on
    /// this one.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let ending = if add_generation_prompt {
            Ending::Answer
        } else {
            Ending::LastMessage
        };
        self.render_conversation(&Conversation::of_texts(messages).with_ending(ending))
    }

    /// The prompt for a conversation with tools and variables of the template's own. Where the last
    /// message is to be continued, this is all that the template makes of it; the prompt's end is cut
    /// off in [`encode_conversation`](crate::chat_prompt::encode_conversation).
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::render`].
    pub fn render_conversation(
        &self,
        conversation: &Conversation,
    ) -> Result<String, TemplateError> {
        if let (Some(fault), Err(_)) = (&self.fault, self.environment.get_template(NAME)) {
            // It could not be read.
            return Err(fault.clone());
        }
        let error = match self.run(conversation) {
            Ok(prompt) => return Ok(prompt),
            Err(error) => error,
        };
        if let Some(message) = raised(&error) {
            return Err(TemplateError::Refused { message });
        }
        let message = describe(&error);
        Err(if self.fault.is_some() || is_unsupported(&error) {
            TemplateError::Fault { message }
        } else {
            TemplateError::Render { message }
        })
    }

    /// What it makes of tools, found by rendering some at the first call.
    pub fn abilities(&self) -> Abilities {
        let render = |conversation: &Conversation| self.run(conversation).ok();
        *self.abilities.get_or_init(|| abilities::probe(&render))
    }

    /// Whether it reads a variable of this name that is not set in it.
    #[must_use]
    pub fn reads(&self, variable: &str) -> bool {
        let template = self.environment.get_template(NAME);
        let names = template.map_or(HashSet::new(), |it| it.undeclared_variables(false));
        names.contains(variable)
    }

    /// Why the template fails on conversations that every template takes, if it does on all.
    fn probe(&self) -> Option<TemplateError> {
        let turns = ["system", "user", "assistant", "user"].map(|role| Message {
            role: role.to_owned(),
            content: "Hello".to_owned(),
        });
        let conversations = [&turns[3..], &turns[1..], &turns[..2]];
        let mut fault = None;
        for messages in conversations {
            match self.run(&Conversation::of_texts(messages)) {
                Err(error) if raised(&error).is_none() => {
                    let message = describe(&error);
                    fault.get_or_insert(TemplateError::Fault { message });
                }
                _ => return None,
            }
        }
        fault
    }

    fn run(&self, conversation: &Conversation) -> Result<String, minijinja::Error> {
        let tools = match &conversation.tools {
            none if none.is_empty() => Value::from(()),
            tools => Value::from(Serde(tools)),
        };
        let variables = context! {
            messages => Serde(&conversation.messages),
            add_generation_prompt => conversation.ending == Ending::Answer,
            tools,
            documents => (),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            ..Value::from(Serde(&conversation.variables))
        };
        self.environment.get_template(NAME)?.render(variables)
    }
}

fn environment(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(MAX_STEPS));
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build()?);
    python::extend(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    // Jinja2 reads every line end as "\n".
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    environment.add_template_owned(NAME, tags::adapt(&source)?)?;
    Ok(environment)
}

/// What a template passed to `raise_exception`, so that it can be told from other errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception was called");
    Err(error.with_source(Raised(message)))
}

/// What the template passed to `raise_exception`, if that is how it ended.
fn raised(error: &minijinja::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref() {
            return Some(message.clone());
        }
        cause = current.source();
    }
    None
}

/// Whether a template asked for something that is not there: no conversation mends that.
fn is_unsupported(error: &minijinja::Error) -> bool {
    use ErrorKind::{
        MissingArgument, TooManyArguments, UnknownFilter, UnknownFunction, UnknownMethod,
        UnknownTest,
    };
    matches!(
        error.kind(),
        MissingArgument
            | TooManyArguments
            | UnknownFilter
            | UnknownFunction
            | UnknownMethod
            | UnknownTest
    )
}

fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or(String::new(), |d| format!(": {d}"));
    let line = error
        .line()
        .map_or(String::new(), |l| format!(" (line {l})"));
    format!("{}{detail}{line}", error.kind())
}

fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, &jiff::ZonedDateTime::now()).map_err(|error| {
        let message = format!("strftime_now does not know the format {format:?}");
        minijinja::Error::new(ErrorKind::InvalidOperation, message).with_source(error)
    })
}
