//! A task over a grid of group sizes and neighbour windows (the paper's figures 5 and 6).

use crate::error::Result;
use selfextend::Method;

/// The name of SelfExtend with these settings.
pub fn method_name(group_size: usize, neighbor_window: usize) -> String {
    format!("selfextend:G={group_size},W={neighbor_window}")
}

/// Plain attention and SelfExtend with every pair of settings.
///
/// # Errors
/// Settings that SelfExtend cannot have.
pub fn methods(group_sizes: &[usize], neighbor_windows: &[usize]) -> Result<Vec<Method>> {
    let mut methods = vec![Method::plain()];
    for &window in neighbor_windows {
        for &group_size in group_sizes {
            methods.push(method_name(group_size, window).parse()?);
        }
    }
    Ok(methods)
}
