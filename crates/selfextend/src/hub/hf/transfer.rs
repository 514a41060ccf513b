//! One file on its way: continued where it stopped, and ended only when it is whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ureq::Body;
use ureq::http::Response;

use super::checksum::Expected;
use super::client::{Client, Wish, header};
use crate::hub::error::HubError;

/// Bytes read at a time.
const CHUNK: usize = 1 << 18;

/// Attempts without a single new byte before a download is given up.
const ATTEMPTS: u32 = 5;

/// How an attempt ended that did not fail for good.
enum End {
    /// All that the server has was read.
    Whole,
    /// The connection broke; what has arrived is kept.
    Broken(String),
    /// The server cannot continue from what is here.
    Again,
}

/// A download of one file into `part`.
pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client,
    pub(super) wish: Wish<'a>,
    pub(super) expected: &'a Expected,
    pub(super) part: &'a Path,
    pub(super) report: &'a mut dyn FnMut(u64, Option<u64>),
}

impl Transfer<'_> {
    /// Downloads what lacks. Returns whether some of the file was there before.
    pub(super) fn run(mut self) -> Result<bool, HubError> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(self.part)
            .map_err(|error| self.local(error))?;
        let before = self.end_of(&mut file)?;
        let (mut failures, mut restarts) = (0, 0);
        loop {
            let have = self.end_of(&mut file)?;
            if have > 0 && self.expected.size == Some(have) {
                return Ok(before > 0);
            }
            let end = match self.expected.size {
                Some(size) if have > size => End::Again,
                _ => self.attempt(&mut file, have)?,
            };
            match end {
                End::Whole => return Ok(before > 0),
                End::Broken(reason) => {
                    let is_longer = self.end_of(&mut file)? > have;
                    failures = if is_longer { 0 } else { failures + 1 };
                    if failures == ATTEMPTS {
                        return Err(self.client.lost(self.wish.what, reason));
                    }
                    std::thread::sleep(self.client.pause);
                }
                End::Again => {
                    restarts += 1;
                    if restarts > ATTEMPTS {
                        let reason = "it cannot continue a download that was interrupted";
                        return Err(self.client.failed(self.wish.what, reason.into()));
                    }
                    file.set_len(0).map_err(|error| self.local(error))?;
                }
            }
        }
    }

    /// One request, from the byte `have` on.
    fn attempt(&mut self, file: &mut File, have: u64) -> Result<End, HubError> {
        let mut answer = match self.client.get(self.wish, Some(have).filter(|&it| it > 0)) {
            Ok(answer) => answer,
            Err(HubError::HubNetwork { reason, .. }) => return Ok(End::Broken(reason)),
            Err(error) => return Err(error),
        };
        let mut have = match answer.status().as_u16() {
            416 => return Ok(End::Again),
            206 if is_continued(&answer, have, self.expected.size) => have,
            206 => return Ok(End::Again),
            200 => {
                // The whole file, whatever was asked for.
                file.set_len(0).map_err(|error| self.local(error))?;
                file.rewind().map_err(|error| self.local(error))?;
                0
            }
            status => {
                let reason = format!("status {status} where a file should be");
                return Err(self.client.failed(self.wish.what, reason));
            }
        };
        let end = self.end_of_body(&answer, have)?;
        let mut body = answer.body_mut().as_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            (self.report)(have, end);
            let count = match body.read(&mut chunk) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(End::Broken(error.to_string())),
            };
            if count == 0 {
                return Ok(match end.filter(|&end| have < end) {
                    Some(end) => End::Broken(format!("the server sent {have} of {end} bytes")),
                    None => End::Whole,
                });
            }
            have += count as u64;
            if let Some(end) = end.filter(|&end| have > end) {
                // Nothing of it can be trusted.
                let _ = file.set_len(0);
                return Err(self.mismatch(end, "more".into()));
            }
            file.write_all(&chunk[..count])
                .map_err(|error| self.local(error))?;
        }
    }

    /// The size that the file will have; `None` if only the end of the body will tell.
    fn end_of_body(&self, answer: &Response<Body>, have: u64) -> Result<Option<u64>, HubError> {
        let header = |name| header(answer.headers(), name);
        if header("content-encoding").is_some_and(|it| it != "identity") {
            let reason = "it sends the file compressed, though it was asked not to";
            return Err(self.client.failed(self.wish.what, reason.into()));
        }
        let announced = answer.body().content_length().map(|length| have + length);
        match (self.expected.size, announced) {
            (Some(size), Some(announced)) if size != announced => {
                Err(self.mismatch(size, format!("{announced} bytes")))
            }
            (Some(size), _) => Ok(Some(size)),
            (None, Some(announced)) => Ok(Some(announced)),
            // A body in chunks has an end of its own; any other may be cut anywhere.
            (None, None) => {
                let in_chunks = header("transfer-encoding")
                    .is_some_and(|it| it.to_ascii_lowercase().contains("chunked"));
                if in_chunks || self.expected.digest.is_some() {
                    return Ok(None);
                }
                let reason = "it tells neither the size nor a checksum of the file, so whether \
                              it is whole cannot be known";
                Err(self.client.failed(self.wish.what, reason.into()))
            }
        }
    }

    fn mismatch(&self, size: u64, got: String) -> HubError {
        HubError::Mismatch {
            file: self.wish.what.to_owned(),
            expected: format!("{size} bytes"),
            got,
        }
    }

    fn end_of(&self, file: &mut File) -> Result<u64, HubError> {
        file.seek(SeekFrom::End(0))
            .map_err(|error| self.local(error))
    }

    fn local(&self, error: io::Error) -> HubError {
        HubError::in_hub_cache(self.part, self.expected.size.unwrap_or(0), error)
    }
}

/// Whether a partial answer goes on at the byte `have` of the same file. Mirrors that do not say
/// from where are taken at the length of what they send.
fn is_continued(answer: &Response<Body>, have: u64, size: Option<u64>) -> bool {
    let Some(range) = header(answer.headers(), "content-range") else {
        let length = answer.body().content_length();
        return size.is_some() && length.map(|length| have + length) == size;
    };
    let parts = range.trim().strip_prefix("bytes ");
    let Some((span, total)) = parts.and_then(|parts| parts.split_once('/')) else {
        return false;
    };
    let starts = span
        .split_once('-')
        .and_then(|(it, _)| it.trim().parse().ok())
        == Some(have);
    let total: Option<u64> = total.trim().parse().ok();
    starts && (total.is_none() || size.is_none() || total == size)
}
