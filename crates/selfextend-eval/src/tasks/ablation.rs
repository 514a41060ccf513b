//! A task over a grid of group sizes and neighbour windows (the paper's figures 5 and 6).

use crate::error::Result;
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
            .map(move |&group| method_name(group, window))
    });
    let names = std::iter::once("plain".to_owned()).chain(pairs);
    names
        .map(|name| {
            name.parse()
                .map_err(|source: MethodError| crate::EvalError::Settings(source.to_string()))
        })
        .collect()
}
