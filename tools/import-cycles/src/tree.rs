//! A crate as a tree of modules.

use std::path::{Path, PathBuf};

use syn::{Expr, Item, Lit, Meta};

use crate::error::Error;
use crate::module::Module;
use crate::paths::{attributes, collect, is_test};

/// All modules of a crate but those of tests; the first is the root.
#[derive(Debug, Default)]
pub struct Tree {
    pub modules: Vec<Module>,
    /// The files, relative to the folder that holds the root file's folder (a package, usually).
    pub files: Vec<PathBuf>,
}

impl Tree {
    /// Reads the crate whose root file is `root`.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let folder = root.parent().unwrap_or(Path::new(""));
        let mut tree = Self::default();
        tree.file(root, folder, None)?;
        let package = folder.parent().unwrap_or(Path::new("")).to_owned();
        for file in &mut tree.files {
            if let Ok(inside) = file.strip_prefix(&package) {
                *file = inside.to_owned();
            }
        }
        Ok(tree)
    }

    /// Adds the module in `path`, whose child modules lie in `folder`; returns its index. A file may
    /// be declared twice, under two conditions.
    fn file(&mut self, path: &Path, folder: &Path, parent: Option<usize>) -> Result<usize, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let parsed = syn::parse_file(&text).map_err(|source| Error::Parse {
            path: path.to_owned(),
            source,
        })?;
        let known = self.files.iter().position(|file| file == path);
        let file = known.unwrap_or_else(|| {
            self.files.push(path.to_owned());
            self.files.len() - 1
        });
        self.module(&parsed.items, file, folder, parent)
    }

    /// Adds a module of `items` in file `file`; returns its index.
    fn module(
        &mut self,
        items: &[Item],
        file: usize,
        folder: &Path,
        parent: Option<usize>,
    ) -> Result<usize, Error> {
        let index = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            ..Module::default()
        });
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            if let Some(name) = defined(item) {
                self.modules[index].items.insert(name);
            }
            if let Item::Mod(module) = item {
                let name = module.ident.to_string();
                let inner = folder.join(&name);
                let child = match &module.content {
                    Some((_, items)) => self.module(items, file, &inner, Some(index))?,
                    None => {
                        let path = self.find(module, file, folder)?;
                        let inner = match path.file_name() {
                            Some(name) if name == "mod.rs" => {
                                path.parent().unwrap_or(folder).to_owned()
                            }
                            _ => inner,
                        };
                        self.file(&path, &inner, Some(index))?
                    }
                };
                let children = &mut self.modules[index].children;
                children.entry(name).or_default().push(child);
            } else {
                collect(item, &mut self.modules[index]);
            }
        }
        Ok(index)
    }

    /// The file of `mod name;`.
    fn find(&self, module: &syn::ItemMod, file: usize, folder: &Path) -> Result<PathBuf, Error> {
        let name = module.ident.to_string();
        let declared_in = &self.files[file];
        let given = module.attrs.iter().find_map(|attribute| {
            let Meta::NameValue(pair) = &attribute.meta else {
                return None;
            };
            match &pair.value {
                Expr::Lit(literal) if pair.path.is_ident("path") => match &literal.lit {
                    Lit::Str(path) => Some(declared_in.with_file_name(path.value())),
                    _ => None,
                },
                _ => None,
            }
        });
        let usual = [
            folder.join(format!("{name}.rs")),
            folder.join(&name).join("mod.rs"),
        ];
        given
            .into_iter()
            .chain(usual)
            .find(|path| path.is_file())
            .ok_or_else(|| Error::NoFile {
                declared_in: declared_in.clone(),
                name,
            })
    }
}

/// The name that an item gives to its module, modules and imports aside.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
