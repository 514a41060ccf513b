//! One module: what it defines, imports and mentions.

use std::collections::{HashMap, HashSet};

/// One imported name: `use path as name`.
#[derive(Debug)]
pub struct Use {
    /// The segments of the path; an absolute one (`::name`) is left out when read.
    pub path: Vec<String>,
    /// The name it has here; `None` is a glob.
    pub name: Option<String>,
    /// Whether it is visible beyond the module, so that it may only pass the name on.
    pub reexport: bool,
}

/// One module, inline or a file of its own.
#[derive(Debug, Default)]
pub struct Module {
    /// Index of its file in [`Tree::files`].
    pub file: usize,
    pub parent: Option<usize>,
    /// Child modules by name: several where `cfg` chooses.
    pub children: HashMap<String, Vec<usize>>,
    /// Names of the items that the module itself defines.
    pub items: HashSet<String>,
    pub uses: Vec<Use>,
    /// Every path its code mentions outside of `use` declarations.
    pub paths: Vec<Vec<String>>,
}
