//! The prompt of a conversation, by the Jinja template that comes with a model.
//!
//! Templates are written for Hugging Face transformers; this renders them as it does, with
//! its settings, its functions (`raise_exception`, `strftime_now`, a `tojson` without HTML
//! escapes) and Python's string methods.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use minijinja::{
    Environment, ErrorKind, Value, context,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde},
};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

#[cfg(test)]
mod tests;

const NAME: &str = "chat_template";

/// Steps after which a template is taken to never end. Real ones take some hundreds a message.
const MAX_STEPS: u64 = 50_000_000;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Why a template could not be read, or a conversation not be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is not Jinja that can be read.
    #[error("the chat template does not parse: {message}; give a template of your own")]
    Syntax {
        /// What is wrong, and in which line.
        message: String,
    },
    /// The template refuses the conversation, as some do with system messages or with two
    /// user messages in a row.
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The template failed while it ran.
    #[error("the chat template failed: {message}")]
    Render {
        /// What went wrong, and in which line.
        message: String,
    },
}

/// A chat template, ready to render.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Reads a template, the value of `tokenizer.chat_template` in a GGUF file. `bos` and
    /// `eos` are the texts of those tokens, empty if the model has none.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Syntax`] if it does not parse.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let environment = environment(source).map_err(|error| TemplateError::Syntax {
            message: describe(&error),
        })?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// The template as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages`; with `add_generation_prompt` it ends where the assistant
    /// is to answer.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Refused`] if the template does not accept the conversation,
    /// [`TemplateError::Render`] if it fails otherwise.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let variables = context! {
            messages => Serde(messages),
            add_generation_prompt,
            tools => (),
            documents => (),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let template = self.environment.get_template(NAME).map_err(render_error)?;
        template.render(variables).map_err(render_error)
    }
}

fn environment(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(MAX_STEPS));
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_template_owned(NAME, without_generation_tags(source).into_owned())?;
    Ok(environment)
}

/// Templates for training mark what the assistant says with a tag of transformers' own.
/// It only encloses text, in a scope of its own, so `with` does the same.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let end = rest[start..]
            .find("%}")
            .map_or(rest.len(), |end| start + end);
        result.push_str(&rest[..start]);
        let tag = &rest[start..end];
        match tag.trim_matches(|c: char| c.is_whitespace() || "{%-+".contains(c)) {
            "generation" => result.push_str(&tag.replace("generation", "with")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endwith")),
            _ => result.push_str(tag),
        }
        rest = &rest[end..];
    }
    result.push_str(rest);
    Cow::Owned(result)
}

/// What a template passed to `raise_exception`, so that it can be told from other errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception was called");
    Err(error.with_source(Raised(message)))
}

fn render_error(error: minijinja::Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref() {
            let message = message.clone();
            return TemplateError::Refused { message };
        }
        cause = current.source();
    }
    let message = describe(&error);
    TemplateError::Render { message }
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

/// As `json.dumps(value, ensure_ascii=False, indent=indent)`: unlike Jinja's own filter,
/// it leaves `<`, `>`, `&` and `'` as they are.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let format = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut json, format))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, Spaced)),
    };
    let invalid = |error: String| minijinja::Error::new(ErrorKind::InvalidOperation, error);
    written.map_err(|error| invalid(format!("tojson failed: {error}")))?;
    let json = String::from_utf8(json).map_err(|error| invalid(error.to_string()))?;
    Ok(Value::from(json))
}

/// JSON on one line with Python's spaces after commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_array_value(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
