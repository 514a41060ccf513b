//! The `selfextend` command.
fn main() {}
