//! Activations with numbers of their own in each layer.

use super::{Checkpoint, Curves, Loader};
use crate::backend::Backend;
use crate::config::XieLu;
use crate::error::Result;

impl<C: Checkpoint, B: Backend> Loader<'_, C, B> {
    /// The tensors that describe a layer's activation.
    pub(super) fn curve_names(&self, n: usize) -> Option<[String; 4]> {
        let Curves::Tensors(ends) = self.reading.curves else {
            return None;
        };
        let layer = self.reading.names.layer.replace("{}", &n.to_string());
        Some(ends.map(|end| format!("{layer}{end}")))
    }

    /// A layer's activation, where it is its own.
    pub(super) fn curve(&self, n: usize) -> Result<Option<XieLu>> {
        if let Curves::Listed(curves) = &self.reading.curves {
            return Ok(curves.get(n).copied().map(XieLu::trained));
        }
        let Some(names) = self.curve_names(n) else {
            return Ok(None);
        };
        let mut numbers = [0.0; 4];
        for (number, name) in numbers.iter_mut().zip(names) {
            let tensor = self.file.tensor(&name)?;
            let found = tensor.and_then(|tensor| tensor.to_floats().first().copied());
            *number = found.ok_or_else(|| self.file.bad(format!("tensor {name} is missing")))?;
        }
        Ok(Some(XieLu::trained(numbers)))
    }
}
