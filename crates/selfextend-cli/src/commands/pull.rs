//! `selfextend pull`: a model onto this machine.

use crate::args::PullArgs;
use crate::error::Result;
use crate::{output, setup};

/// Fetches the model and prints its path.
pub fn pull(args: &PullArgs) -> Result<()> {
    let path = setup::fetch(&args.model)?;
    output::line(&path.display().to_string())
}
