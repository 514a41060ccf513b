//! A call as a value, and what a part of a text may turn out to be.

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// An object, as the model wrote it where its format is JSON.
    pub arguments: String,
}

/// What a text begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// So many bytes are content, whatever follows.
    Content(usize),
    /// What follows decides.
    More,
    /// Calls, in so many bytes.
    Calls(usize, Vec<Call>),
}

/// What a text begins with, if it is what was looked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<T> {
    /// It is, in so many bytes.
    Whole(usize, T),
    /// It may be.
    More,
    /// It is not.
    No,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// No content has come before it.
    pub start: bool,
    /// A call has come before it.
    pub after_call: bool,
    /// Nothing follows.
    pub ended: bool,
}

/// Whether a text begins with a marker: `More` where it ends inside of one.
pub fn begins(text: &str, marker: &str, ended: bool) -> Body<()> {
    if text.starts_with(marker) {
        Body::Whole(marker.len(), ())
    } else if !ended && marker.starts_with(text) {
        Body::More
    } else {
        Body::No
    }
}

/// Bytes of white space that a text begins with.
pub fn space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}
