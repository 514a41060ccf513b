//! Functions that a model may call: what requests say of them, and calls in what models write.
//!
//! `set` reads `tools` and `tool_choice`; `syntax` and the files it chooses from know one format each,
//! from text to calls and back; `parser` turns a stream of text into content and calls; `grammar` holds
//! calls to their schemas.

mod call;
mod grammar;
mod json;
mod mistral;
mod parser;
mod python;
mod pythonic;
mod set;
mod syntax;
#[cfg(test)]
mod tests;
mod xml;

pub use call::Call;
pub use grammar::{Wanted, grammar, is_held};
pub use parser::{CallParser, Part};
pub use set::{MOST_TOOLS, ToolSet};
pub use syntax::{markers, write_calls};
