//! A tiny random model, and the binary run on it.

mod tiny;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
pub use tiny::{Tiny, WINDOW};

/// A directory for this process's files, with the tiny model in it.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        Tiny::default().write(&dir.path().join("tiny.gguf"));
        dir
    })
    .path()
}

/// The tiny model.
pub fn tiny() -> String {
    dir().join("tiny.gguf").display().to_string()
}

/// A file in the test directory.
pub fn file(name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = dir().join(name);
    std::fs::write(&path, contents).unwrap();
    path.display().to_string()
}

/// A file of the shared folder, where that is there.
pub fn shared(name: &str) -> Option<String> {
    let root = std::env::var_os("SELFEXTEND_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into());
    let path = root.join(name);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path.display().to_string())
}

/// What a run of the binary left behind.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts failure with an exit code and one message of one line that says all of `words`,
    /// and nothing on stdout.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<_> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        assert_eq!(
            self.stderr.lines().last(),
            errors.last().copied(),
            "{self:?}"
        );
        assert!(
            words.iter().all(|word| errors[0].contains(word)),
            "{words:?}: {self:?}"
        );
        assert_eq!(self.stdout, "", "{self:?}");
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Every line of stdout as JSON.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The binary, which finds no model, cache or history of the user's.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfextend"));
    command
        .args(args)
        .env("SELFEXTEND_CACHE", dir().join("cache"));
    command
        .env("HOME", dir())
        .env("XDG_CACHE_HOME", dir().join("user-cache"))
        .env("XDG_DATA_HOME", dir().join("data"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the binary with a text on stdin.
pub fn with_stdin(args: &[&str], stdin: impl AsRef<[u8]>) -> Done {
    let mut child = command(args).spawn().unwrap();
    // A process that does not read it closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the binary.
pub fn selfextend(args: &[&str]) -> Done {
    with_stdin(args, "")
}

/// Runs a command of the binary on the tiny model.
pub fn on_tiny(command: &str, args: &[&str]) -> Done {
    let model = tiny();
    selfextend(&[&[command, "-m", &model], args].concat())
}
