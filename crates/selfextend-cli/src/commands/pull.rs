//! `selfextend pull`: a model onto this machine.

use crate::args::PullArgs;
use crate::error::Result;
use crate::{engine, output};

/// Fetches the model and prints its path.
pub fn pull(args: &PullArgs) -> Result<()> {
    let path = engine::fetch(&args.model)?;
    output::line(&path.display().to_string())
}
