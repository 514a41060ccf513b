//! `selfextend pull`: downloads a model.

use crate::args::pull::PullArgs;
use crate::error::Result;
use crate::{output, setup};

/// Downloads the model if it is not on this machine, and prints its path.
pub fn pull(args: &PullArgs) -> Result<()> {
    let path = setup::fetch(&args.model)?;
    output::line(&path.display().to_string())
}
