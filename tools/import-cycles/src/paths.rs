//! The paths that an item mentions: in code, in macro arguments, in attributes.

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemUse, Local, Macro, Meta, Token, UseTree, Visibility};

use crate::module::{Module, Use};

/// Adds the imports and paths of `item` to its module.
pub fn collect(item: &Item, module: &mut Module) {
    Collector { module }.visit_item(item);
}

struct Collector<'a> {
    module: &'a mut Module,
}

impl Visit<'_> for Collector<'_> {
    fn visit_item(&mut self, item: &Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_local(&mut self, local: &Local) {
        if !is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        if item.leading_colon.is_none() {
            let reexport = !matches!(item.vis, Visibility::Inherited);
            import(&item.tree, &mut Vec::new(), reexport, self.module);
        }
    }

    fn visit_visibility(&mut self, _: &Visibility) {}

    fn visit_path(&mut self, path: &syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|part| part.ident.to_string());
            self.module.paths.push(segments.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &Attribute) {
        match &attribute.meta {
            Meta::List(list) if !list.path.is_ident("cfg") => self.tokens(list.tokens.clone()),
            _ => {}
        }
    }
}

impl Collector<'_> {
    /// Paths among tokens that were not parsed: `name::name::name`, not after a dot or a dollar.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, sign: char| matches!(&tokens[at], TokenTree::Punct(p) if p.as_char() == sign);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut path = vec![first.to_string()];
                    let mut next = at + 1;
                    while next + 2 < tokens.len() && is(next, ':') && is(next + 1, ':') {
                        let TokenTree::Ident(name) = &tokens[next + 2] else {
                            break;
                        };
                        path.push(name.to_string());
                        next += 3;
                    }
                    let variable = at > 0 && is(at - 1, '$') && path[0] != "crate";
                    let method = at > 0 && is(at - 1, '.') && !(at > 1 && is(at - 2, '.'));
                    if !variable && !method {
                        self.module.paths.push(path);
                    }
                    at = next - 1;
                }
                // serde names functions in strings.
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if let Ok(path) = syn::parse_str::<syn::Path>(text.trim_matches('"')) {
                        self.visit_path(&path);
                    }
                }
                TokenTree::Punct(_) => {}
            }
            at += 1;
        }
    }
}

/// Flattens a `use` tree; `before` is the path so far.
fn import(tree: &UseTree, before: &mut Vec<String>, reexport: bool, module: &mut Module) {
    let mut add = |name: Option<String>, path: Vec<String>| {
        module.uses.push(Use {
            path,
            name,
            reexport,
        });
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            import(&path.tree, before, reexport, module);
            before.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                import(tree, before, reexport, module);
            }
        }
        UseTree::Glob(_) => add(None, before.clone()),
        UseTree::Name(name) if name.ident == "self" => add(before.last().cloned(), before.clone()),
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            add(Some(name.clone()), joined(before, &name));
        }
        UseTree::Rename(rename) => {
            let path = if rename.ident == "self" {
                before.clone()
            } else {
                joined(before, &rename.ident.to_string())
            };
            add(Some(rename.rename.to_string()), path);
        }
    }
}

fn joined(before: &[String], name: &str) -> Vec<String> {
    before.iter().cloned().chain([name.to_owned()]).collect()
}

/// Whether `#[cfg(...)]` among `attributes` holds in tests alone.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<Meta>()
                .is_ok_and(|condition| needs_test(&condition))
    })
}

/// Whether a condition cannot hold outside of tests.
fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else {
        return condition.path().is_ident("test");
    };
    let Ok(inner) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else {
        return false;
    };
    if list.path.is_ident("all") {
        inner.iter().any(needs_test)
    } else {
        list.path.is_ident("any") && inner.iter().all(needs_test)
    }
}

/// The attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
