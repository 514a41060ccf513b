//! Grammars that hold an answer to calls, in llguidance's dialect of Lark.

use super::set::{Choice, Tool, ToolSet};
use super::syntax::{Frame, frame, markers};
use crate::api::reasoning::Thinking;
use crate::tool_format::ToolFormat;
use serde_json::{Value, json};
use std::collections::HashSet;

/// What an answer is held to.
pub struct Wanted<'a> {
    /// The functions, where there are some to call, and how the model writes calls.
    pub tools: Option<(&'a ToolSet, ToolFormat)>,
    /// The JSON schema of the content, where there is one.
    pub content: Option<&'a Value>,
    /// How the model thinks before it answers, if it does, and whether the prompt has begun it.
    pub thinking: Option<(Thinking, bool)>,
    /// The id of a control token that is written so.
    pub token: &'a dyn Fn(&str) -> Option<u32>,
}

/// The grammar; none where the answer is free.
pub fn grammar(wanted: &Wanted) -> Option<String> {
    let held = wanted.tools.filter(|(tools, _)| is_held(tools));
    if held.is_none() && wanted.content.is_none() {
        return None;
    }
    let mut rules = Rules {
        wanted,
        text: String::new(),
    };
    let thinking = rules.thinking();
    let body = match wanted.tools {
        // Held to a schema, or free to call.
        Some((tools, format)) => rules.body(tools, format),
        None => rules.content(""),
    };
    Some(format!("start: {thinking} {body}\n{}", rules.text))
}

/// Whether a grammar holds calls of these functions to their format.
pub fn is_held(tools: &ToolSet) -> bool {
    match tools.choice {
        Choice::None => false,
        Choice::Required | Choice::Named(_) => true,
        Choice::Auto => tools.tools.iter().any(|tool| tool.strict),
    }
}

struct Rules<'a> {
    wanted: &'a Wanted<'a>,
    text: String,
}

impl Rules<'_> {
    fn rule(&mut self, name: &str, body: &str) {
        self.text.push_str(name);
        self.text.push_str(": ");
        self.text.push_str(body);
        self.text.push('\n');
    }

    /// Text as it is written, in which markers that are control tokens stand for them.
    fn literal(&self, text: &str, markers: &[&str]) -> String {
        let next = markers.iter().filter_map(|marker| {
            let id = (self.wanted.token)(marker)?;
            Some((text.find(marker)?, *marker, id))
        });
        match next.min() {
            Some((at, marker, id)) => {
                let before = quoted(&text[..at]);
                let after = self.literal(&text[at + marker.len()..], markers);
                format!("{before} <[{id}]> {after}")
            }
            None => quoted(text),
        }
    }

    /// What comes before the answer itself.
    fn thinking(&mut self) -> String {
        let Some((thinking, opened)) = self.wanted.thinking else {
            return String::new();
        };
        let close = match (self.wanted.token)(thinking.close) {
            Some(id) => format!("/(.|\\n)*/ <[{id}]>"),
            None => {
                let close = pattern(thinking.close);
                self.rule("thought[lazy]", &format!("/(.|\\n)*{close}/"));
                "thought".to_owned()
            }
        };
        self.rule("thinking", &format!("{close} /\\n{{0,2}}/"));
        if opened {
            return "thinking".to_owned();
        }
        let open = self.literal(thinking.open, &[thinking.open]);
        format!("({open} thinking)?")
    }

    /// The content that is no call: of its schema, or any text of a pattern.
    fn content(&mut self, free: &str) -> String {
        match self.wanted.content {
            Some(schema) => {
                let schema = compact(schema.clone());
                self.rule("content", &format!("%json {schema}"));
            }
            None => self.rule("content", free),
        }
        "content".to_owned()
    }

    fn body(&mut self, tools: &ToolSet, format: ToolFormat) -> String {
        let markers = markers(format);
        let [open, between, close] = match frame(format) {
            Some(Frame { around, .. }) => around,
            None if format == ToolFormat::Pythonic => ["[", ", ", "]"],
            None => ["", "\n", ""],
        };
        let required = matches!(tools.choice, Choice::Required | Choice::Named(_));
        // The marker that tells a call from text, where the format has one that is text itself.
        let marker = match format {
            ToolFormat::Llama3Json | ToolFormat::Pythonic | ToolFormat::Json => None,
            _ => markers.first().copied(),
        };
        let marker = marker.filter(|marker| (self.wanted.token)(marker).is_none());
        // Whether it stands before a list of calls, not before each.
        let listed = marker.and_then(|marker| open.strip_prefix(marker));
        let listed = listed.filter(|rest| !rest.is_empty());
        let each = marker.filter(|_| listed.is_none()).unwrap_or_default();
        let mut names = Vec::new();
        for (n, tool) in tools.callable().enumerate() {
            let held = required || tool.strict;
            self.call(n, tool, held, format, each);
            names.push(format!("call_{n}"));
        }
        self.rule("rest", &names.join(" | "));
        let marked = quoted(each);
        self.rule("call", &format!("{marked} rest"));
        let one = matches!(tools.choice, Choice::Named(_)) || !tools.parallel;
        let (open, between) = (self.literal(open, markers), self.literal(between, markers));
        let more = if one {
            String::new()
        } else {
            format!("({between} call)*")
        };
        let close = self.literal(close, markers);
        self.rule("calls", &format!("{open} call {more} {close}"));
        if required {
            return "calls".to_owned();
        }
        if self.wanted.content.is_some() {
            let content = self.content("");
            return format!("(calls | {content})");
        }
        let Some(marker) = marker else {
            // A control token tells a call from text, or the first character does.
            let free = match format {
                ToolFormat::Mistral | ToolFormat::MistralArgs => {
                    self.content("/(.|\\n)*/");
                    return "content? calls?".to_owned();
                }
                _ => self.content("/[^\\{\\[ \\t\\n](.|\\n)*/"),
            };
            return format!("(calls | {free})?");
        };
        let marker = pattern(marker);
        let any = format!("(.|\\n)*{marker}");
        self.rule("lead[lazy]", &format!("/{any}/"));
        self.rule("FREE", &format!("/(.|\\n)*/ & ~/{any}(.|\\n)*/"));
        let content = self.content("FREE");
        let list = quoted(listed.unwrap_or_default());
        format!("({content} | lead {list} rest {more} {close})")
    }

    /// The rule of a call, without the marker that it begins with.
    fn call(&mut self, n: usize, tool: &Tool, held: bool, format: ToolFormat, marker: &str) {
        let any = json!({"type": "object"});
        let schema = if held { &tool.parameters } else { &any };
        let markers = markers(format);
        let (before, after) = match frame(format) {
            Some(Frame { call: parts, .. }) => {
                (format!("{}{}{}", parts[0], tool.name, parts[1]), parts[2])
            }
            None if format == ToolFormat::Pythonic => (format!("{}(", tool.name), ")"),
            None => (
                format!("<tool_call>\n<function={}>\n", tool.name),
                "</function>\n</tool_call>",
            ),
        };
        let before = before.strip_prefix(marker).unwrap_or(&before).to_owned();
        let arguments = match format {
            ToolFormat::Qwen3Coder => self.tagged(n, schema),
            ToolFormat::Pythonic => self.keywords(n, schema),
            _ => format!("%json {}", compact(schema.clone())),
        };
        self.rule(&format!("arguments_{n}"), &arguments);
        let (before, after) = (self.literal(&before, markers), self.literal(after, markers));
        self.rule(
            &format!("call_{n}"),
            &format!("{before} arguments_{n} {after}"),
        );
    }

    /// Arguments in tags, in the order of the schema.
    fn tagged(&mut self, n: usize, schema: &Value) -> String {
        let end = "\n</parameter>\n";
        let mut all = Vec::new();
        for (k, argument) in properties(schema).iter().enumerate() {
            let name = format!("argument_{n}_{k}");
            let open = quoted(&format!("<parameter={}>\n", argument.key));
            let texts = argument.texts();
            let value = if !texts.is_empty() {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("({}) {}", texts.join(" | "), quoted(end))
            } else if argument.schema["type"] == "string" {
                let value = format!("value_{n}_{k}");
                let end = pattern(end);
                self.rule(&format!("{value}[lazy]"), &format!("/(.|\\n)*{end}/"));
                value
            } else {
                format!("{} {}", argument.json(), quoted(end))
            };
            self.rule(&name, &format!("{open} {value}"));
            all.push(if argument.required {
                name
            } else {
                format!("{name}?")
            });
        }
        let anything = schema.get("properties").is_none();
        if anything {
            let end = pattern(end);
            self.rule(&format!("other_{n}[lazy]"), &format!("/(.|\\n)*{end}/"));
            all.push(format!(
                "(\"<parameter=\" /[A-Za-z0-9_.-]+/ \">\\n\" other_{n})*"
            ));
        }
        if all.is_empty() {
            all.push("\"\"".to_owned());
        }
        all.join(" ")
    }

    /// Arguments by their names, those that are required first.
    fn keywords(&mut self, n: usize, schema: &Value) -> String {
        let mut all = properties(schema);
        all.sort_by_key(|argument| !argument.required);
        for (k, argument) in all.iter().enumerate() {
            let value = match &argument.schema["type"] {
                kind if kind == "boolean" => "(\"True\" | \"False\")".to_owned(),
                kind if kind == "null" => "\"None\"".to_owned(),
                _ => argument.json(),
            };
            let key = quoted(&format!("{}=", argument.key));
            self.rule(&format!("argument_{n}_{k}"), &format!("{key} {value}"));
        }
        let required = all.iter().filter(|argument| argument.required).count();
        let more = |from: usize| -> String {
            let rest = (from..all.len()).map(|k| format!(" (\", \" argument_{n}_{k})?"));
            rest.collect()
        };
        if required > 0 {
            let names: Vec<String> = (0..required).map(|k| format!("argument_{n}_{k}")).collect();
            return names.join(" \", \" ") + &more(required);
        }
        let ways = (0..all.len()).map(|k| format!("argument_{n}_{k}{}", more(k + 1)));
        match ways.collect::<Vec<_>>().join(" | ") {
            none if none.is_empty() => "\"\"".to_owned(),
            ways => format!("({ways})?"),
        }
    }
}

/// An argument of a function.
struct Argument<'s> {
    key: &'s str,
    schema: &'s Value,
    required: bool,
    /// Where its schema may refer to.
    whole: &'s Value,
}

impl Argument<'_> {
    /// The texts that it may be, where the schema lists them.
    fn texts(&self) -> Vec<&str> {
        let listed = self.schema["enum"].as_array().into_iter().flatten();
        let all: Vec<&Value> = listed.chain(self.schema.get("const")).collect();
        let texts: Option<Vec<&str>> = all.iter().map(|value| value.as_str()).collect();
        texts.unwrap_or_default()
    }

    fn json(&self) -> String {
        let mut schema = self.schema.clone();
        for definitions in ["$defs", "definitions"] {
            if let (Some(object), Some(found)) =
                (schema.as_object_mut(), self.whole.get(definitions))
            {
                object.insert(definitions.to_owned(), found.clone());
            }
        }
        format!("%json {}", compact(schema))
    }
}

fn properties(schema: &Value) -> Vec<Argument<'_>> {
    let required: HashSet<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let all = schema["properties"].as_object().into_iter().flatten();
    all.map(|(key, value)| Argument {
        key,
        schema: value,
        required: required.contains(key.as_str()),
        whole: schema,
    })
    .collect()
}

/// A schema whose values have no free white space: small models may write nothing else.
fn compact(mut schema: Value) -> Value {
    if schema == true {
        schema = json!({});
    }
    if let Some(object) = schema.as_object_mut() {
        let spaces = json!({
            "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
        });
        object.insert("x-guidance".to_owned(), spaces);
    }
    schema
}

/// A text as Lark writes it; nothing for an empty one.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    Value::from(text).to_string()
}

/// A regular expression for a text.
fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        match c {
            '\n' => pattern.push_str("\\n"),
            c if c.is_alphanumeric() || "<>_ ".contains(c) => pattern.push(c),
            c => pattern.extend(['\\', c]),
        }
    }
    pattern
}
