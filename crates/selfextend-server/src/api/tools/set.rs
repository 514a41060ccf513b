//! The functions of a request, and which of them may or must be called.

use crate::api::error::ApiError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The most functions of a request.
pub const MOST_TOOLS: usize = 1024;
/// The longest function and choice, and all functions together, in bytes of JSON.
const LONGEST_TOOL: usize = 128 << 10;
const LONGEST_TOOLS: usize = 1 << 20;
/// The longest name of a function in bytes.
const LONGEST_NAME: usize = 128;

/// A function that may be called.
#[derive(Debug, Clone)]
pub struct Tool {
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether calls are held to the schema where the model chooses to call.
    pub strict: bool,
    /// What the template is given: the function as the request has it, without what is for the decoder.
    pub shown: Value,
}

/// Whether functions are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Auto,
    None,
    Required,
    Named(String),
}

/// What a request says of functions.
#[derive(Debug, Clone)]
pub struct ToolSet {
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// Whether an answer may have more than one call.
    pub parallel: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolIn {
    #[serde(rename = "type")]
    kind: String,
    function: Option<FunctionIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionIn {
    name: String,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
    /// Shown to the model where a template wants it.
    #[serde(default, rename = "return")]
    _return: IgnoredAny,
    #[serde(default, rename = "returns")]
    _returns: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedIn {
    #[serde(rename = "type")]
    kind: String,
    function: Option<NameIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameIn {
    name: String,
}

impl ToolSet {
    /// Reads `tools`, `tool_choice` and `parallel_tool_calls` in the shapes of chat completions.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn read(
        tools: &[Box<RawValue>],
        choice: Option<&RawValue>,
        parallel: Option<bool>,
    ) -> Result<Self, ApiError> {
        let all: usize = tools.iter().map(|tool| tool.get().len()).sum();
        if all > LONGEST_TOOLS {
            let message = format!("tools are longer than {LONGEST_TOOLS} bytes together");
            return Err(ApiError::parameter("tools", message));
        }
        let tools: Vec<Tool> = tools
            .iter()
            .enumerate()
            .map(|(n, tool)| read_tool(&format!("tools[{n}]"), tool.get()))
            .collect::<Result<_, _>>()?;
        let choice = match choice {
            None => Choice::Auto,
            Some(choice) => read_choice(choice.get())?,
        };
        Self::new(tools, choice, parallel)
    }

    /// Functions and which of them are called.
    ///
    /// # Errors
    /// Two functions of one name, a call that is required of none.
    pub fn new(tools: Vec<Tool>, choice: Choice, parallel: Option<bool>) -> Result<Self, ApiError> {
        for (n, tool) in tools.iter().enumerate() {
            if tools[..n].iter().any(|other| other.name == tool.name) {
                let message = format!("tools[{n}]: there are two functions {:?}", tool.name);
                return Err(ApiError::parameter(format!("tools[{n}]"), message));
            }
        }
        let set = Self {
            tools,
            choice,
            parallel: parallel.unwrap_or(true),
        };
        match &set.choice {
            Choice::Named(name) if set.get(name).is_none() => {
                let message = format!("tool_choice: tools have no function {name:?}");
                Err(ApiError::parameter("tool_choice", message))
            }
            Choice::Required if set.tools.is_empty() => {
                let message = "tool_choice requires a call, but there are no tools";
                Err(ApiError::parameter("tool_choice", message))
            }
            _ => Ok(set),
        }
    }

    /// Whether the model may call anything.
    pub fn is_active(&self) -> bool {
        !self.tools.is_empty() && self.choice != Choice::None
    }

    /// A function by its name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// Whether a function's name begins so.
    pub fn starts_any(&self, text: &str) -> bool {
        self.tools.iter().any(|tool| tool.name.starts_with(text))
    }

    /// The functions that may be called in this answer.
    pub fn callable(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter().filter(|tool| match &self.choice {
            Choice::Named(name) => tool.name == *name,
            _ => true,
        })
    }
}

impl Tool {
    /// A function; its place in the request is for errors.
    ///
    /// # Errors
    /// A name that is none, parameters that are no schema of an object.
    pub fn new(
        place: &str,
        name: String,
        parameters: Option<Value>,
        strict: bool,
        shown: Value,
    ) -> Result<Self, ApiError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-:/".contains(c);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
            let message = format!(
                "{place}.name: a function's name has 1 to {LONGEST_NAME} characters: letters, digits, and _ - . : /"
            );
            return Err(ApiError::parameter(format!("{place}.name"), message));
        }
        let none = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        let mut parameters = parameters.unwrap_or_else(none);
        let Some(object) = parameters.as_object_mut() else {
            let message = format!("{place}.parameters must be a JSON schema of an object");
            return Err(ApiError::parameter(format!("{place}.parameters"), message));
        };
        // As OpenAI's servers: arguments are an object, whether or not the schema says it.
        let kind = object.entry("type").or_insert_with(|| "object".into());
        if kind != "object" {
            let message = format!("{place}.parameters: the type must be \"object\", not {kind}");
            return Err(ApiError::parameter(format!("{place}.parameters"), message));
        }
        Ok(Self {
            name,
            parameters,
            strict,
            shown,
        })
    }

    /// The JSON types that an argument may have; none where the schema does not say.
    pub fn types(&self, key: &str) -> Vec<String> {
        let schema = &self.parameters["properties"][key];
        let mut types = Vec::new();
        add_types(schema, &mut types);
        for way in ["anyOf", "oneOf"] {
            for schema in schema[way].as_array().into_iter().flatten() {
                add_types(schema, &mut types);
            }
        }
        types
    }
}

fn add_types(schema: &Value, types: &mut Vec<String>) {
    let mut add = |kind: &Value| types.extend(kind.as_str().map(str::to_owned));
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().for_each(add),
        kind => add(kind),
    }
    let values = schema["enum"].as_array().into_iter().flatten();
    if values.chain(schema.get("const")).any(Value::is_string) {
        types.push("string".to_owned());
    }
}

fn read_tool(place: &str, text: &str) -> Result<Tool, ApiError> {
    let wrong = |error: serde_json::Error| ApiError::parameter(place, format!("{place}: {error}"));
    if text.len() > LONGEST_TOOL {
        let message = format!("{place}: the function is longer than {LONGEST_TOOL} bytes");
        return Err(ApiError::parameter(place, message));
    }
    let mut shown: Value = serde_json::from_str(text).map_err(wrong)?;
    let kind = &shown["type"];
    if kind != "function" {
        let message = format!(
            "{place}.type: {kind} is not supported; this server calls no tools of its own, only the type \"function\""
        );
        return Err(ApiError::unsupported(format!("{place}.type"), message));
    }
    let ToolIn { function, .. } = serde_json::from_str(text)
        .map_err(wrong)
        .inspect(|tool: &ToolIn| debug_assert_eq!(tool.kind, "function"))?;
    let function = function.ok_or_else(|| {
        let name = format!("{place}.function");
        ApiError::parameter(&*name, format!("{name} is missing"))
    })?;
    if let Some(function) = shown["function"].as_object_mut() {
        function.shift_remove("strict");
    }
    Tool::new(
        &format!("{place}.function"),
        function.name,
        function.parameters,
        function.strict.unwrap_or(false),
        shown,
    )
}

fn read_choice(text: &str) -> Result<Choice, ApiError> {
    let wrong = |message: String| ApiError::parameter("tool_choice", message);
    if text.len() > LONGEST_TOOL {
        return Err(wrong("tool_choice is too long".to_owned()));
    }
    if let Ok(word) = serde_json::from_str::<String>(text) {
        return match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" | "any" => Ok(Choice::Required),
            other => Err(wrong(format!(
                "tool_choice {other:?} is none of auto, none, required"
            ))),
        };
    }
    let named: NamedIn = serde_json::from_str(text).map_err(|error| {
        wrong(format!(
            "tool_choice must be a text or name a function: {error}"
        ))
    })?;
    match (named.kind.as_str(), named.function) {
        ("function", Some(function)) => Ok(Choice::Named(function.name)),
        (kind, _) => Err(ApiError::unsupported(
            "tool_choice",
            format!("tool_choice of type {kind:?} is not supported; name a function"),
        )),
    }
}
