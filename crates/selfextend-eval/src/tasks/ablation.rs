//! A task over a grid of group sizes and neighbour windows (the paper's figures 5 and 6).

use crate::error::{EvalError, Result};
use selfextend::Method;
use selfextend::method::MethodError;

/// The name of SelfExtend with these settings.
pub fn method_name(group_size: usize, neighbor_window: usize) -> String {
    format!("selfextend:G={group_size},W={neighbor_window}")
}

/// Plain attention and SelfExtend with every pair of settings.
///
/// # Errors
/// Settings no method can have.
pub fn methods(group_sizes: &[usize], neighbor_windows: &[usize]) -> Result<Vec<Method>> {
    let pairs = neighbor_windows.iter().flat_map(|&window| {
        group_sizes
            .iter()
            .map(move |&group_size| method_name(group_size, window))
    });
    std::iter::once(PLAIN.to_owned())
        .chain(pairs)
        .map(|name| method(&name))
        .collect()
}

/// The name of plain attention, what every method is held against.
pub(crate) const PLAIN: &str = "plain";

/// A method by its name.
///
/// # Errors
/// A name no method has.
pub fn method(name: &str) -> Result<Method> {
    name.parse()
        .map_err(|error: MethodError| EvalError::settings(error.to_string()))
}
