//! `selfextend pull`: downloads and verifies a model.

use crate::args::pull::PullArgs;
use crate::error::Result;
use crate::{output, setup};

/// Downloads what lacks of the model, verifies what is there, and prints its path.
pub fn pull(args: &PullArgs) -> Result<()> {
    let path = setup::pull(&args.model)?;
    output::line(&path.display().to_string())
}
