//! Answers held to a grammar: the fields of vLLM's API for it, and of OpenAI's.

use super::error::ApiError;
use super::fields::Few;
use crate::constrain::Grammar;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

/// The longest grammar in bytes.
pub const LONGEST: usize = 128 << 10;
/// The most texts to choose from.
const MOST_CHOICES: usize = 1024;

/// `structured_outputs`, of which one field is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructuredOutputs {
    json: Option<Box<RawValue>>,
    regex: Option<String>,
    choice: Option<Few<String, MOST_CHOICES>>,
    grammar: Option<String>,
    json_object: Option<bool>,
    /// White space between values is never free here.
    #[serde(default, rename = "disable_any_whitespace")]
    _disable_any_whitespace: IgnoredAny,
    /// There is one way of holding answers to a grammar.
    #[serde(default, rename = "disable_fallback")]
    _disable_fallback: IgnoredAny,
}

/// The fields of a body that hold its answers to a grammar.
#[derive(Debug, Default)]
pub struct Guides {
    pub json: Option<Box<RawValue>>,
    pub regex: Option<String>,
    pub choice: Option<Few<String, MOST_CHOICES>>,
    pub grammar: Option<String>,
    pub structured: Option<StructuredOutputs>,
}

/// The type of `guided_choice`.
pub type Choices = Few<String, MOST_CHOICES>;

impl Guides {
    /// The grammar, where one is asked for, with the name of its field.
    ///
    /// # Errors
    /// More than one, or one that cannot be read.
    pub fn read(self) -> Result<Option<(&'static str, Grammar)>, ApiError> {
        let structured = self.structured.unwrap_or(StructuredOutputs {
            json: None,
            regex: None,
            choice: None,
            grammar: None,
            json_object: None,
            _disable_any_whitespace: IgnoredAny,
            _disable_fallback: IgnoredAny,
        });
        let any_object = structured.json_object.unwrap_or(false);
        let object = || serde_json::json!({"type": "object"});
        let found = [
            read_json("guided_json", self.json)?,
            read_json("structured_outputs.json", structured.json)?,
            any_object.then(|| ("structured_outputs.json_object", Grammar::Json(object()))),
            read_text("guided_regex", self.regex, Grammar::Regex)?,
            read_text("structured_outputs.regex", structured.regex, Grammar::Regex)?,
            read_choices("guided_choice", self.choice)?,
            read_choices("structured_outputs.choice", structured.choice)?,
            read_lark("guided_grammar", self.grammar)?,
            read_lark("structured_outputs.grammar", structured.grammar)?,
        ];
        let mut found = found.into_iter().flatten();
        let first = found.next();
        match (&first, found.next()) {
            (Some((one, _)), Some((other, _))) => {
                let message = format!("an answer cannot be held to both {one} and {other}");
                Err(ApiError::parameter(other, message))
            }
            _ => Ok(first),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseFormat {
    #[serde(rename = "type")]
    pub kind: String,
    pub json_schema: Option<JsonSchema>,
    /// Of a json_object, as llama.cpp's server and others take it.
    pub schema: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonSchema {
    pub schema: Option<Box<RawValue>>,
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
    #[serde(default, rename = "description")]
    _description: IgnoredAny,
    /// Answers always follow the schema.
    #[serde(default, rename = "strict")]
    _strict: IgnoredAny,
}

impl JsonSchema {
    /// A schema without a name.
    pub fn new(schema: Box<RawValue>) -> Self {
        Self {
            schema: Some(schema),
            ..Self::default()
        }
    }
}

impl ResponseFormat {
    /// The JSON schema that the answer must follow, if any.
    ///
    /// # Errors
    /// A format that is not known, or a schema that is missing or cannot be read.
    pub fn schema(&mut self) -> Result<Option<Value>, ApiError> {
        let beside = self.schema.take();
        if beside.is_some() && self.kind != "json_object" {
            let message = "response_format.schema belongs to the type json_object; json_schema has json_schema.schema";
            return Err(ApiError::parameter("response_format.schema", message));
        }
        let schema = self
            .json_schema
            .as_mut()
            .and_then(|format| format.schema.take());
        match (self.kind.as_str(), schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => match beside {
                Some(schema) => read_schema("response_format.schema", &schema).map(Some),
                None => Ok(Some(serde_json::json!({"type": "object"}))),
            },
            ("json_schema", Some(schema)) => {
                read_schema("response_format.json_schema.schema", &schema).map(Some)
            }
            ("json_schema", None) => Err(ApiError::parameter(
                "response_format.json_schema.schema",
                "response_format json_schema needs json_schema.schema",
            )),
            (kind, _) => Err(ApiError::parameter(
                "response_format.type",
                format!("response_format {kind:?} is none of text, json_object, json_schema"),
            )),
        }
    }
}

fn read_schema(name: &str, schema: &RawValue) -> Result<serde_json::Value, ApiError> {
    if schema.get().len() > LONGEST {
        let message = format!("{name}: the schema is longer than {LONGEST} bytes");
        return Err(ApiError::parameter(name, message));
    }
    let read = serde_json::from_str(schema.get());
    read.map_err(|error| ApiError::parameter(name, format!("{name}: {error}")))
}

type Found = Option<(&'static str, Grammar)>;

fn read_json(name: &'static str, schema: Option<Box<RawValue>>) -> Result<Found, ApiError> {
    let Some(schema) = schema.filter(|schema| schema.get() != "null") else {
        return Ok(None);
    };
    check_length(name, schema.get())?;
    let wrong = |error| ApiError::parameter(name, format!("{name}: {error}"));
    let schema: Value = serde_json::from_str(schema.get()).map_err(wrong)?;
    // Also as a text, as vLLM takes it.
    let schema = match schema {
        Value::String(text) => serde_json::from_str(&text).map_err(wrong)?,
        schema => schema,
    };
    Ok(Some((name, Grammar::Json(schema))))
}

fn read_text(
    name: &'static str,
    text: Option<String>,
    grammar: fn(String) -> Grammar,
) -> Result<Found, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    check_length(name, &text)?;
    if text.is_empty() {
        return Err(ApiError::parameter(name, format!("{name} is empty")));
    }
    Ok(Some((name, grammar(text))))
}

fn read_choices(name: &'static str, choices: Option<Choices>) -> Result<Found, ApiError> {
    let Some(Few(choices)) = choices else {
        return Ok(None);
    };
    if choices.is_empty() || choices.iter().any(String::is_empty) {
        let message = format!("{name} must hold at least one text, and no empty one");
        return Err(ApiError::parameter(name, message));
    }
    check_length(name, &choices.concat())?;
    Ok(Some((name, Grammar::Choice(choices))))
}

fn read_lark(name: &'static str, text: Option<String>) -> Result<Found, ApiError> {
    if text.as_ref().is_some_and(|text| text.contains("::=")) {
        let message = format!(
            "{name}: grammars are read in Lark's notation (`start: \"a\" | \"b\"`), not in GBNF or EBNF with `::=`"
        );
        return Err(ApiError::unsupported(name, message));
    }
    read_text(name, text, Grammar::Lark)
}

fn check_length(name: &str, text: &str) -> Result<(), ApiError> {
    if text.len() > LONGEST {
        let message = format!("{name} is longer than {LONGEST} bytes");
        return Err(ApiError::parameter(name, message));
    }
    Ok(())
}
