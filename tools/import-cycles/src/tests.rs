use std::fs;

use crate::cycles;

/// Writes a crate of `files` (path, text) and returns its cycles as text.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join("src").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let cycles = cycles(&folder.path().join("src/lib.rs")).unwrap();
    cycles.iter().map(ToString::to_string).collect()
}

const TWO: (&str, &str) = ("lib.rs", "mod a; mod b;");

#[test]
fn two_files_that_import_each_other_are_named_with_what_they_take() {
    let cycle = found(&[
        TWO,
        (
            "a.rs",
            "use crate::b::{B, other as renamed}; pub struct A(B);",
        ),
        ("b.rs", "pub struct B; pub fn other(_: super::a::A) {}"),
    ]);
    assert_eq!(
        cycle,
        ["2 files import each other:\n  src/a.rs -> src/b.rs: B, other\n  src/b.rs -> src/a.rs: A"]
    );
}

#[test]
fn one_direction_makes_no_cycle() {
    let files = [
        TWO,
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        (
            "b.rs",
            "pub struct B; impl B { fn a(&self) { let a = 1; self.a(); } }",
        ),
    ];
    assert!(found(&files).is_empty());
}

#[test]
fn a_function_with_the_name_of_a_module_is_not_taken_for_it() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a.rs", "mod b; mod c; use c::go; fn b() { go() }"),
        ("a/b.rs", "pub struct B;"),
        ("a/c.rs", "use super::b::B; pub fn go() { B; }"),
    ];
    assert!(found(&files).is_empty());
}

#[test]
fn three_files_in_a_ring_are_one_cycle() {
    let cycle = found(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; pub struct C;"),
    ]);
    assert_eq!(cycle.len(), 1);
    assert!(cycle[0].starts_with("3 files"), "{}", cycle[0]);
}

#[test]
fn a_facade_makes_no_cycle() {
    let files = [
        ("lib.rs", "mod a;"),
        (
            "a/mod.rs",
            "mod b; mod c; pub use b::B; pub fn run() { c::go() }",
        ),
        ("a/b.rs", "pub struct B;"),
        ("a/c.rs", "use super::B; pub fn go() { crate::a::B; }"),
    ];
    assert!(found(&files).is_empty());
}

#[test]
fn a_child_that_imports_its_parents_own_item_is_a_cycle_if_the_parent_imports_it() {
    let parent = "mod b; pub use b::B; pub const OWN: usize = 1;";
    let child = ("a/b.rs", "pub struct B([u8; super::OWN]);");
    let only_passed_on = ("a/mod.rs", parent);
    assert!(found(&[("lib.rs", "mod a;"), only_passed_on, child]).is_empty());
    let used = format!("{parent} pub struct Holder {{ b: B }}");
    let cycle = found(&[("lib.rs", "mod a;"), ("a/mod.rs", &used), child]);
    assert_eq!(cycle.len(), 1);
    assert!(
        cycle[0].contains("src/a/mod.rs -> src/a/b.rs: B"),
        "{}",
        cycle[0]
    );
}

#[test]
fn tests_are_left_out() {
    let files = [
        TWO,
        (
            "a.rs",
            "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }
             #[cfg(all(test, unix))] mod elsewhere; #[cfg(test)] use crate::b::B;
             impl A { #[cfg(test)] fn b() -> crate::b::B { todo!() } }",
        ),
        ("b.rs", "pub struct B(crate::a::A);"),
    ];
    assert!(found(&files).is_empty());
}

#[test]
fn what_is_compiled_without_tests_too_is_not_left_out() {
    let cycle = found(&[
        TWO,
        (
            "a.rs",
            "pub struct A; #[cfg(any(test, unix))] use crate::b::B;",
        ),
        ("b.rs", "pub struct B; #[cfg(not(test))] use crate::a::A;"),
    ]);
    assert_eq!(cycle.len(), 1);
}

/// `b.rs` imports from `a.rs`; each of these in `a.rs` closes the circle.
#[test]
fn every_way_to_name_an_item_is_seen() {
    for code in [
        "fn f() { crate::b::run() }",
        "fn f() { super::b::run() }",
        "fn f(_: Option<crate::b::B>) {}",
        "fn f() { println!(\"{}\", crate::b::run()) }",
        "fn f() { use crate::b::run; run() }",
        "use crate::b; fn f() { b::run() }",
        "use crate::b::{self as other}; fn f() { other::run() }",
        "use crate::b::*; fn f() { run() }",
        "use crate::*; fn f() { b::run() }",
        "macro_rules! m { () => { $crate::b::run() } }",
        "#[some(with = \"crate::b::run\")] struct S;",
        "#[some(with = crate::b::run)] struct S;",
        "mod inner { pub fn f() { super::super::b::run() } }",
        "impl crate::b::Trait for A {}",
        "use crate::passed_on; fn f() { passed_on() }",
    ] {
        let cycle = found(&[
            ("lib.rs", "mod a; mod b; pub use b::run as passed_on;"),
            ("a.rs", &format!("pub struct A; {code}")),
            (
                "b.rs",
                "pub fn run(_: crate::a::A) {} pub struct B; pub trait Trait {}",
            ),
        ]);
        assert_eq!(cycle.len(), 1, "{code}");
    }
}

#[test]
fn names_of_other_crates_are_not_ours() {
    let files = [
        ("lib.rs", "mod a; mod b; mod std_like;"),
        (
            "a.rs",
            "use ::b::B; use std::fmt; pub struct A; fn f() { ::b::run() }",
        ),
        ("b.rs", "pub struct B(crate::a::A);"),
        ("std_like.rs", ""),
    ];
    assert!(found(&files).is_empty());
}

#[test]
fn modules_in_named_files_and_imports_of_themselves_are_read() {
    let cycle = found(&[
        (
            "lib.rs",
            "#[path = \"odd/place.rs\"] mod a; mod b; pub use self::b as again;",
        ),
        (
            "odd/place.rs",
            "pub struct A; use crate::again::B; use crate::nothing::nothing;",
        ),
        (
            "b.rs",
            "pub struct B(crate::a::A); pub use self::loops as loops; use loops::loops;",
        ),
    ]);
    assert_eq!(cycle.len(), 1);
}

#[test]
fn a_file_declared_under_two_conditions_is_one_file() {
    let cycle = found(&[
        (
            "lib.rs",
            "#[cfg(unix)] pub mod a; #[cfg(not(unix))] mod a; mod b;",
        ),
        ("a.rs", "pub struct A; use crate::b::B;"),
        ("b.rs", "pub struct B(crate::a::A);"),
    ]);
    assert_eq!(cycle.len(), 1);
    assert_eq!(cycle[0].matches("->").count(), 2, "{}", cycle[0]);
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lib.rs");
    fs::write(&root, "mod gone;").unwrap();
    let error = cycles(&root).unwrap_err().to_string();
    assert!(error.contains("lib.rs: no file for `mod gone`"), "{error}");
}
