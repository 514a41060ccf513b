//! All model types.

use super::names::{self, ModelType};

/// One after the other; the first stands for a model whose type is not known yet.
pub(super) fn all() -> impl Iterator<Item = &'static ModelType> {
    let dense = names::MODEL_TYPES.iter().chain(names::dense::MODEL_TYPES);
    dense.chain(names::experts::MODEL_TYPES)
}

/// The one of a name.
pub(super) fn find(name: &str) -> Option<&'static ModelType> {
    all().find(|known| known.name == name)
}
