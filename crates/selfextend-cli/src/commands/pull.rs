//! `selfextend pull`: downloads and verifies a model.

use crate::args::pull::PullArgs;
use crate::error::Result;
use crate::{output, setup};
use selfextend::hub::Verified;
use serde::Serialize;

/// The model, for JSON.
#[derive(Serialize)]
struct Report {
    path: String,
    verified: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    path: String,
    bytes: u64,
    /// SHA-256, or SHA-1 if it has 40 digits.
    checksum: Option<String>,
}

/// Downloads what lacks of the model, verifies what is there, prints its path, and says on standard
/// error what was verified.
pub fn pull(args: &PullArgs) -> Result<()> {
    let pulled = setup::pull(&args.model)?;
    let path = pulled.path.display().to_string();
    if args.json {
        let file = |it: &Verified| FileReport {
            path: it.path.display().to_string(),
            bytes: it.bytes,
            checksum: it.checksum.clone(),
        };
        return output::json(&Report {
            path,
            verified: pulled.verified.iter().map(file).collect(),
        });
    }
    if pulled.verified.is_empty() {
        output::note(
            "nothing was verified: a file that is named by its path has no source to compare it with",
        );
    }
    for file in &pulled.verified {
        output::note(&in_words(file));
    }
    output::line(&path)
}

fn in_words(file: &Verified) -> String {
    let name = file.path.file_name().unwrap_or(file.path.as_os_str());
    let checksum = match &file.checksum {
        Some(digits) if digits.len() == 40 => format!("SHA-1 {digits}"),
        Some(digits) => format!("SHA-256 {digits}"),
        None => "its source publishes no checksum".to_owned(),
    };
    let bytes = output::grouped(file.bytes as usize);
    format!(
        "verified {}: {bytes} bytes, {checksum}",
        name.to_string_lossy()
    )
}
