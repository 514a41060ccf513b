//! From paths to the files that define what they name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::tree::Tree;

/// What a path names.
enum Target {
    Module(usize),
    /// An item (or something inside one) that a file defines.
    Item {
        file: usize,
        name: String,
    },
}

/// Names being looked up, by module: an import of itself ends the search.
type Seen = HashSet<(usize, String)>;

/// Which file takes which names from which other file.
pub fn imports(tree: &Tree) -> BTreeMap<(usize, usize), BTreeSet<String>> {
    let mut imports = BTreeMap::<_, BTreeSet<String>>::new();
    for (index, module) in tree.modules.iter().enumerate() {
        let used = module.uses.iter().filter(|import| !import.reexport);
        let used = used.map(|import| &import.path);
        for path in used.chain(&module.paths) {
            for target in resolve(tree, index, path, &mut Seen::new()) {
                match target {
                    Target::Item { file, name } if file != module.file => {
                        imports.entry((module.file, file)).or_default().insert(name);
                    }
                    _ => {}
                }
            }
        }
    }
    imports
}

/// What `path`, written in module `from`, names; nothing if it lies outside of the crate.
fn resolve(tree: &Tree, from: usize, path: &[String], seen: &mut Seen) -> Vec<Target> {
    let Some((first, rest)) = path.split_first() else {
        return vec![Target::Module(from)];
    };
    match first.as_str() {
        "crate" => inside(tree, 0, rest, seen),
        "self" => inside(tree, from, rest, seen),
        "super" => match tree.modules[from].parent {
            // `super::super` is relative to the parent, like everything after `super`.
            Some(parent) if rest.first().is_some_and(|next| next == "super") => {
                resolve(tree, parent, rest, seen)
            }
            Some(parent) => inside(tree, parent, rest, seen),
            None => Vec::new(),
        },
        _ => inside(tree, from, path, seen),
    }
}

/// What `path` names inside module `at`.
fn inside(tree: &Tree, at: usize, path: &[String], seen: &mut Seen) -> Vec<Target> {
    let Some((name, rest)) = path.split_first() else {
        return vec![Target::Module(at)];
    };
    let mut targets = member(tree, at, name, seen);
    // A function may have the name of a module, but nothing follows a function in a path.
    let is_module = |target: &Target| matches!(target, Target::Module(_));
    if !rest.is_empty() && targets.iter().any(is_module) {
        targets.retain(is_module);
    }
    let mut found = Vec::new();
    for target in targets {
        match target {
            Target::Module(module) => found.extend(inside(tree, module, rest, seen)),
            item => found.push(item),
        }
    }
    found
}

/// What `name` is in the scope of module `at`.
fn member(tree: &Tree, at: usize, name: &str, seen: &mut Seen) -> Vec<Target> {
    if !seen.insert((at, name.to_owned())) {
        return Vec::new();
    }
    let module = &tree.modules[at];
    let children = module.children.get(name).into_iter().flatten();
    let mut found: Vec<Target> = children.map(|&child| Target::Module(child)).collect();
    if module.items.contains(name) {
        found.push(Target::Item {
            file: module.file,
            name: name.to_owned(),
        });
    }
    for import in &module.uses {
        if import.name.as_deref() == Some(name) {
            found.extend(resolve(tree, at, &import.path, seen));
        }
    }
    if found.is_empty() {
        for glob in module.uses.iter().filter(|import| import.name.is_none()) {
            for target in resolve(tree, at, &glob.path, seen) {
                if let Target::Module(other) = target {
                    found.extend(member(tree, other, name, seen));
                }
            }
        }
    }
    seen.remove(&(at, name.to_owned()));
    found
}
