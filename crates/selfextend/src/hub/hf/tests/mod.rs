//! Pulls from small servers on this machine that answer as the hub does, or as mirrors, proxies and
//! broken connections do.

mod cached;
mod faults;
mod folders;
mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use server::{Rules, Server};

const TEXT: &[u8] = b"GGUF tiny model";
const SHA: &str = "660423459b1593c3f53ee78ca4424f7272ef129ef3b877e0432522454293507b";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

struct Lab {
    dir: tempfile::TempDir,
    options: PullOptions,
    server: Server,
}

impl Lab {
    /// A hub with these files, all of which hold the same text.
    fn new(files: &[&str], rules: Rules) -> Self {
        let files = files.iter().map(|&name| (name, TEXT.to_vec()));
        Self::with_files(files, rules)
    }

    fn with_files<'a>(files: impl Iterator<Item = (&'a str, Vec<u8>)>, rules: Rules) -> Self {
        let server = Server::start(files, rules);
        let dir = tempfile::tempdir().unwrap();
        let options = PullOptions {
            hub_cache: Some(dir.path().join("hub")),
            hub_endpoint: Some(server.address.clone()),
            ..PullOptions::default()
        };
        Self {
            dir,
            options,
            server,
        }
    }

    fn pull(&self, spec: &str) -> Result<PathBuf, HubError> {
        Ok(self.pull_with(spec, &mut |_| {})?.path)
    }

    /// As `pull`, but for the waits between attempts.
    fn pull_with(
        &self,
        spec: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, HubError> {
        let id = id(spec);
        if self.options.hub_offline {
            return pull(&id, &self.options, progress);
        }
        let mut client = Client::new(&self.options)?;
        client.pause = Duration::from_millis(1);
        let cache = cache_of(&id, &self.options)?;
        Pull {
            id: &id,
            client: &client,
            cache: &cache,
            progress,
            verified: Vec::new(),
        }
        .run()
    }

    fn locate(&self, spec: &str) -> Option<PathBuf> {
        locate(&id(spec), &self.options).unwrap()
    }

    /// The directory of the model `o/n`.
    fn home(&self) -> PathBuf {
        self.dir.path().join("hub/models--o--n")
    }

    /// All paths in the cache, with where links lead to.
    fn tree(&self) -> Vec<String> {
        let root = self.dir.path().join("hub");
        let mut paths = Vec::new();
        walk(&root, &mut |path| {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            paths.push(match fs::read_link(path) {
                Ok(target) => format!("{name} -> {}", target.display()),
                Err(_) => name,
            });
        });
        paths.sort();
        paths
    }
}

fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), visit),
            false => visit(&entry.path()),
        }
    }
}

fn id(spec: &str) -> HubId {
    HubId::parse(spec).unwrap().unwrap()
}

#[test]
fn names_are_read() {
    let plain = id("Owner/Some.Model-1_2");
    assert_eq!(
        (plain.repo.as_str(), plain.file),
        ("Owner/Some.Model-1_2", None)
    );
    let named = id("o/n:sub/x.Q4_K_M.gguf");
    assert_eq!(named.file.as_deref(), Some("sub/x.Q4_K_M.gguf"));
}

#[test]
fn a_named_file_is_pulled() {
    let lab = Lab::new(&["a.gguf", "sub/b.gguf"], Rules::default());
    assert_eq!(lab.locate("o/n:sub/b.gguf"), None);
    let mut seen = Vec::new();
    let spec = "o/n:sub/b.gguf";
    let pulled = lab.pull_with(spec, &mut |it| seen.push(it)).unwrap();
    let path = pulled.path.clone();
    assert_eq!(fs::read(&path).unwrap(), TEXT);
    assert!(path.starts_with(lab.dir.path()));
    let total = TEXT.len() as u64;
    for phase in [Phase::Download, Phase::Verify] {
        let last = seen.iter().rfind(|it| it.phase == phase);
        let done = total;
        assert_eq!(last, Some(&Progress { phase, done, total }));
    }
    let verified = |lab: &Lab| lab.pull_with(spec, &mut |_| {}).unwrap().verified;
    let [file] = &pulled.verified[..] else {
        panic!("{pulled:?}");
    };
    assert_eq!((&file.path, file.bytes), (&path, total));
    let digest = checksum::sha256(&path).unwrap();
    assert_eq!(file.checksum, Some(digest));
    assert_eq!(verified(&lab), pulled.verified);
    // From now on it is found without the network, by its model's name alone too.
    assert_eq!(lab.locate("o/n:sub/b.gguf"), Some(path.clone()));
    assert_eq!(lab.locate("o/n"), Some(path));
    assert_eq!(lab.locate("o/n:a.gguf"), None);
}

#[test]
fn the_only_gguf_file_is_meant() {
    let files = &["README.md", "a.gguf", "../../evil.gguf"];
    let lab = Lab::new(files, Rules::default());
    assert!(lab.pull("o/n").unwrap().ends_with("a.gguf"));
}

#[test]
fn a_pattern_chooses_among_several_files() {
    let files = &[
        "x-Q4_K_M.gguf",
        "x-Q4_K_S.gguf",
        "UD-IQ3_S/x-UD-IQ3_S.gguf",
        "x-q8_0.gguf",
    ];
    let lab = Lab::new(files, Rules::default());
    for (spec, file) in [
        ("o/n:Q4_K_M", files[0]),
        ("o/n:q4_k_s", files[1]),
        ("o/n:IQ3_S", files[2]),
        ("o/n:Q8_0", files[3]),
    ] {
        assert!(lab.pull(spec).unwrap().ends_with(file), "{spec}");
        assert!(lab.locate(spec).unwrap().ends_with(file), "{spec}");
    }
    let error = lab.pull("o/n:Q4_K").unwrap_err().to_string();
    assert!(
        error.contains("`Q4_K`") && error.contains("  x-Q4_K_S.gguf"),
        "{error}"
    );
    let error = lab.pull("o/n:x").unwrap_err();
    assert!(matches!(error, HubError::SeveralGguf { .. }), "{error}");
}

#[test]
fn all_parts_of_a_split_file_are_pulled() {
    let files = &[
        "Q4/x-00001-of-00003.gguf",
        "Q4/x-00002-of-00003.gguf",
        "Q4/x-00003-of-00003.gguf",
    ];
    for spec in ["o/n", "o/n:Q4/x-00002-of-00003.gguf", "o/n:Q4"] {
        let mut lab = Lab::new(files, Rules::default());
        assert_eq!(lab.locate(spec), None);
        let pulled = lab.pull_with(spec, &mut |_| {}).unwrap();
        assert!(pulled.path.ends_with(files[0]), "{spec}");
        assert_eq!(pulled.verified.len(), 3);
        let folder = pulled.path.parent().unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 3);
        assert_eq!(lab.locate(spec), Some(pulled.path.clone()));
        lab.options.hub_offline = true;
        assert_eq!(lab.pull_with(spec, &mut |_| {}).unwrap(), pulled);
        fs::remove_file(folder.join("x-00003-of-00003.gguf")).unwrap();
        assert_eq!(lab.locate(spec), None);
        let error = lab.pull(spec).unwrap_err().to_string();
        assert!(error.contains("x-00003-of-00003.gguf"), "{error}");
    }
}

#[test]
fn several_gguf_files_are_listed() {
    let lab = Lab::new(&["b.gguf", "a.gguf"], Rules::default());
    let error = lab.pull("o/n").unwrap_err().to_string();
    assert!(
        error.contains("`o/n:a.gguf`") && error.contains("a.gguf\n  b.gguf"),
        "{error}"
    );
    lab.pull("o/n:a.gguf").unwrap();
    lab.pull("o/n:b.gguf").unwrap();
    let error = locate(&id("o/n"), &lab.options).unwrap_err();
    assert!(matches!(error, HubError::SeveralGguf { .. }), "{error}");
}

#[test]
fn other_formats_are_refused() {
    let lab = Lab::new(&["model.safetensors"], Rules::default());
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::NoGguf { .. }), "{error}");
}

#[test]
fn a_hub_out_of_reach_is_an_error() {
    let mut lab = Lab::new(&[], Rules::default());
    // Nothing listens on the discard port.
    lab.options.hub_endpoint = Some("http://127.0.0.1:9".into());
    let error = lab.pull("o/n:a.gguf").unwrap_err();
    assert!(matches!(error, HubError::HubNetwork { .. }), "{error}");
    for endpoint in ["huggingface.co", "http://a b", "ftp://x", "http://"] {
        lab.options.hub_endpoint = Some(endpoint.into());
        let error = lab.pull("o/n").unwrap_err();
        assert!(matches!(error, HubError::BadEndpoint { .. }), "{error}");
    }
}
