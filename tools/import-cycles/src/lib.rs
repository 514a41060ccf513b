//! Finds import cycles between the files of a crate.
//!
//! [`cycles`] parses a crate from its root file (`lib.rs` or `main.rs`) through its `mod`
//! declarations, resolves every path to the file that defines the item, and returns the groups of
//! files that depend on each other in a circle.
//!
//! What counts as an import of file B by file A:
//!
//! - a private `use`, or a path anywhere in A's code (macro arguments and attributes included),
//!   that names an item which B defines;
//! - not a `pub use`, which only passes a name on: whoever uses that name imports from the file
//!   that defines it, so a façade makes no cycle. If A's own code uses the name too, it counts;
//! - not a `mod` declaration, and nothing behind `#[cfg(test)]`.
//!
//! Limits: methods of a trait that is in scope only by a glob are not seen, and names made by
//! macros are unknown.

mod error;
mod module;
mod paths;
mod resolve;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

pub use crate::error::Error;
use crate::resolve::imports;
use crate::tree::Tree;

/// A group of files each of which depends on all others, directly or through one another.
///
/// `Display` writes a line for each import inside the group: `file -> file: names`.
#[derive(Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The files, in alphabetical order.
    pub files: Vec<PathBuf>,
    /// The imports that tie them: who imports, from where, which names.
    pub imports: Vec<(PathBuf, PathBuf, BTreeSet<String>)>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files import each other:", self.files.len())?;
        for (from, to, names) in &self.imports {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>();
            let (from, to) = (from.display(), to.display());
            write!(f, "\n  {from} -> {to}: {}", names.join(", "))?;
        }
        Ok(())
    }
}

/// The import cycles of the crate whose root file is `root`, in alphabetical order.
pub fn cycles(root: &Path) -> Result<Vec<Cycle>, Error> {
    let tree = Tree::read(root)?;
    Ok(cycles_of(&tree.files, &imports(&tree)))
}

/// Groups `imports` (from file, to file: names) by strongly connected component.
fn cycles_of(
    files: &[PathBuf],
    imports: &BTreeMap<(usize, usize), BTreeSet<String>>,
) -> Vec<Cycle> {
    let graph = DiGraphMap::<usize, ()>::from_edges(imports.keys());
    let mut cycles: Vec<Cycle> = tarjan_scc(&graph)
        .into_iter()
        .filter(|group| group.len() > 1)
        .map(|group| {
            let mut members: Vec<_> = group.iter().map(|&file| files[file].clone()).collect();
            members.sort();
            let inside = imports
                .iter()
                .filter(|((from, to), _)| group.contains(from) && group.contains(to));
            let mut inside: Vec<_> = inside
                .map(|(&(from, to), names)| (files[from].clone(), files[to].clone(), names.clone()))
                .collect();
            inside.sort();
            Cycle {
                files: members,
                imports: inside,
            }
        })
        .collect();
    cycles.sort_by(|a, b| a.files.cmp(&b.files));
    cycles
}

#[cfg(test)]
mod tests;
