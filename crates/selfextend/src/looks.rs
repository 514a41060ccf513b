//! Where numbers stop being finite: a look at the output of every operation, for those who ask.

use crate::backend::Backend;
use crate::error::{Error, Result};

/// Looks at outputs of operations, in their order, if it is switched on.
pub(crate) struct Looks<'a, B> {
    backend: &'a B,
    on: bool,
    layer: Option<usize>,
}

impl<'a, B: Backend> Looks<'a, B> {
    /// In a layer, or outside of all.
    pub fn new(backend: &'a B, on: bool, layer: Option<usize>) -> Self {
        Self { backend, on, layer }
    }

    /// # Errors
    /// [`Error::NotFiniteIn`] where a number of this output is not finite.
    pub fn at(&self, operation: &'static str, output: &B::Buffer) -> Result<()> {
        if !self.on {
            return Ok(());
        }
        let numbers = self.backend.read(output);
        match numbers.iter().find(|x| !x.is_finite()) {
            None => Ok(()),
            Some(&value) => Err(Error::NotFiniteIn {
                operation,
                layer: self.layer,
                value,
            }),
        }
    }
}
