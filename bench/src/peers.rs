//! Fetches and builds what selfextend is measured against, and selfextend itself.

use crate::error::{BenchError, Result};
use crate::note::note;
use crate::process::{ask, ask_aside, prepare, prepare_and_ask};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The PyPI source package that llama.cpp's sources are taken from: pinned, and available wherever
/// pip works.
const PACKAGE: &str = "llama-cpp-python";
const VERSION: &str = "0.3.36";

/// mistral.rs's Python package: a wheel for generic processors.
const MISTRAL: &str = "mistralrs";
const MISTRAL_VERSION: &str = "0.9.5";

/// llama.cpp's programs.
#[derive(Debug, Clone)]
pub struct Llama {
    /// `llama-bench`.
    pub bench: PathBuf,
    /// `llama-quantize`.
    pub quantize: PathBuf,
    /// `llama-server`, where it is built.
    pub server: Option<PathBuf>,
    /// Which llama.cpp it is.
    pub version: String,
}

impl Llama {
    /// The programs in a folder; `name` is whose they are.
    pub fn in_folder(name: &str, folder: &Path) -> Result<Self> {
        let llama = Self::at(folder);
        // Of a fork the folder may hold no more than what is measured.
        for wanted in [&llama.bench, &llama.quantize] {
            if !wanted.is_file() && (wanted == &llama.bench || name == "llama.cpp") {
                return Err(BenchError::failure(format!(
                    "{} is not there: {name}'s folder must hold llama-bench{}",
                    wanted.display(),
                    if name == "llama.cpp" {
                        " and llama-quantize"
                    } else {
                        ""
                    }
                )));
            }
        }
        Ok(Self {
            version: format!("{name} of {}: {}", folder.display(), llama.says()),
            ..llama
        })
    }

    /// Builds the programs under `bench`, unless they exist; the server only where it is wanted.
    pub fn prepare(bench: &Path, server: bool) -> Result<Self> {
        let home = bench.join("llama.cpp");
        let build = home.join("build");
        let folder = build.join("bin");
        let llama = Self::at(&folder);
        if !llama.bench.is_file() || !llama.quantize.is_file() {
            note("building llama.cpp (once; this takes a while)");
            let bin = tools(&home)?;
            let source = source(&home, &bin)?;
            configure(&source, &build, &bin)?;
            build_targets(&build, &bin, &["llama-bench", "llama-quantize"])?;
        }
        if server && llama.server.is_none() {
            note("building llama.cpp's server (once)");
            // Without it the rest can be measured; the report says that it is not there.
            if let Err(error) = build_server(&home, &build) {
                note(&error.to_string());
            }
        }
        let llama = Self::at(&folder);
        Ok(Self {
            version: format!("llama.cpp of {PACKAGE} {VERSION}: {}", llama.says()),
            ..llama
        })
    }

    fn at(folder: &Path) -> Self {
        let program = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        Self {
            bench: program("llama-bench"),
            quantize: program("llama-quantize"),
            server: Some(program("llama-server")).filter(|it| it.is_file()),
            version: String::new(),
        }
    }

    /// The version that llama-bench reports.
    fn says(&self) -> String {
        let answer = ask_aside(Command::new(&self.bench).arg("--version")).unwrap_or_default();
        let mut lines = answer.lines();
        let version = lines.find_map(|line| line.strip_prefix("version:"));
        version.unwrap_or("of unknown version").trim().to_owned()
    }

    /// The model in another weight format, made under `bench` unless it exists.
    pub fn requantized(&self, model: &Path, format: &str, bench: &Path) -> Result<PathBuf> {
        let folder = bench.join("models");
        fs::create_dir_all(&folder).map_err(|error| BenchError::path("make", &folder, error))?;
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        let made = folder.join(format!("{stem}.as-{format}.gguf"));
        if !made.is_file() {
            note(&format!("making {}", made.display()));
            // Under another name first, so that a file with the final name is complete.
            let draft = made.with_extension("part");
            let mut command = Command::new(&self.quantize);
            command.arg("--allow-requantize").arg(model).arg(&draft);
            ask(command.arg(format))?;
            fs::rename(&draft, &made).map_err(|error| BenchError::path("make", &made, error))?;
        }
        Ok(made)
    }
}

/// The `bin` folder of a virtual environment with cmake and ninja.
fn tools(home: &Path) -> Result<PathBuf> {
    let venv = home.join("venv");
    let bin = venv.join("bin");
    if !bin.join("cmake").is_file() || !bin.join("ninja").is_file() {
        fs::create_dir_all(home).map_err(|error| BenchError::path("make", home, error))?;
        prepare(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let wanted = ["cmake", "ninja", "scikit-build-core", "flit_core"];
        prepare(pip(&bin).arg("install").args(wanted))?;
    }
    Ok(bin)
}

fn build_server(home: &Path, build: &Path) -> Result<()> {
    let bin = tools(home)?;
    // Again, because it may have been configured without.
    configure(&source(home, &bin)?, build, &bin)?;
    build_targets(build, &bin, &["llama-server"])
}

fn build_targets(build: &Path, bin: &Path, targets: &[&str]) -> Result<()> {
    let mut command = with_path(bin, "cmake")?;
    command.arg("--build").arg(build);
    prepare(command.arg("--target").args(targets)).map(drop)
}

fn pip(bin: &Path) -> Command {
    let mut command = Command::new(bin.join("python"));
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

/// llama.cpp's sources, fetched unless they exist.
fn source(home: &Path, bin: &Path) -> Result<PathBuf> {
    let name = format!("{}-{VERSION}", PACKAGE.replace('-', "_"));
    let source = home.join(&name).join("vendor/llama.cpp");
    if !source.join("CMakeLists.txt").is_file() {
        let archive = home.join(format!("{name}.tar.gz"));
        if !archive.is_file() {
            let mut command = pip(bin);
            command.args(["download", "--no-deps", "--no-build-isolation"]);
            command.args(["--no-binary", PACKAGE, &format!("{PACKAGE}=={VERSION}")]);
            // pip asks the package's build backend for its version, which needs cmake.
            command.env("PATH", path_with(bin)?);
            prepare(command.arg("-d").arg(home))?;
        }
        // Beside its place first, so that a folder with the final name is complete.
        let draft = home.join("unpacked");
        let _ = fs::remove_dir_all(&draft);
        let moved = |error| BenchError::path("unpack", &archive, error);
        fs::create_dir_all(&draft).map_err(moved)?;
        let mut command = Command::new("tar");
        prepare(command.arg("xzf").arg(&archive).arg("-C").arg(&draft))?;
        fs::rename(draft.join(&name), home.join(&name)).map_err(moved)?;
        let _ = fs::remove_dir(&draft);
    }
    Ok(source)
}

fn configure(source: &Path, build: &Path, bin: &Path) -> Result<()> {
    let mut command = with_path(bin, "cmake")?;
    command.arg("-S").arg(source).arg("-B").arg(build);
    command.args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]);
    // For this machine's processor, and without the parts that are not measured.
    command.args(["-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"]);
    command.args(["-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF"]);
    command.args(["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"]);
    // Built only where its target is asked for.
    command.arg("-DLLAMA_BUILD_SERVER=ON");
    // Otherwise it would report this repository's commit as its own.
    command.env("GIT_CEILING_DIRECTORIES", build.parent().unwrap_or(build));
    prepare(&mut command).map(drop)
}

fn with_path(bin: &Path, program: &str) -> Result<Command> {
    let mut command = Command::new(bin.join(program));
    command.env("PATH", path_with(bin)?);
    Ok(command)
}

fn path_with(bin: &Path) -> Result<OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&old));
    std::env::join_paths(folders).map_err(BenchError::failure)
}

/// The script that measures mistral.rs.
pub fn mistral_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mistral/measure.py")
}

/// A Python with mistral.rs under `bench`, fetched unless it exists.
pub fn prepare_mistral(bench: &Path) -> Result<PathBuf> {
    let venv = bench.join("mistralrs");
    let python = venv.join("bin/python");
    let wanted = format!("{MISTRAL}=={MISTRAL_VERSION}");
    if mistral_version(&python).is_err() {
        note(&format!("fetching {wanted}"));
        fs::create_dir_all(bench).map_err(|error| BenchError::path("make", bench, error))?;
        prepare(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        // A wheel only: its sources would be compiled for an hour, for another processor.
        let mut command = pip(&venv.join("bin"));
        command.args(["install", "--no-deps", "--only-binary", ":all:"]);
        prepare(command.arg(&wanted))?;
    }
    mistral_version(&python)?;
    Ok(python)
}

/// The version of mistral.rs that a Python has.
pub fn mistral_version(python: &Path) -> Result<String> {
    let script =
        format!("import {MISTRAL}, importlib.metadata as m; print(m.version('{MISTRAL}'))");
    ask(Command::new(python).args(["-c", &script]))
}

/// Builds the workspace of `bench/candle`, for this machine's processor as llama.cpp is.
pub fn prepare_candle(root: &Path, bench: &Path) -> Result<PathBuf> {
    let target = bench.join("candle");
    let mut command = cargo();
    command.args(["build", "--release", "--locked"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.current_dir(root.join("bench/candle"));
    // candle selects its instructions at compile time.
    command.env("RUSTFLAGS", "-C target-cpu=native");
    command.env("CARGO_TARGET_DIR", &target);
    built(&mut command, "candle-bench")
}

/// Builds the command line.
pub fn prepare_ours(root: &Path) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "-p", "selfextend-cli"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    built(command.current_dir(root), "selfextend")
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a build and takes the program's path from cargo, which knows all settings of target
/// folders.
fn built(command: &mut Command, name: &str) -> Result<PathBuf> {
    let finished = prepare_and_ask(command)?;
    executable(&finished.stdout, name).ok_or_else(|| finished.unreadable("no executable"))
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages
        .lines()
        .map(serde_json::from_str::<serde_json::Value>);
    let mut built = messages.filter_map(|message| {
        let message = message.ok()?;
        let named = message["target"]["name"] == name;
        let path = message["executable"].as_str().filter(|_| named)?;
        Some(PathBuf::from(path))
    });
    built.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_the_executable() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\nnoise\n",
            r#"{"reason":"compiler-artifact","target":{"name":"it"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"it"},"executable":"/t/it"}"#,
            "\n"
        );
        assert_eq!(executable(messages, "it"), Some(PathBuf::from("/t/it")));
        assert_eq!(executable(messages, "else"), None);
    }

    #[test]
    fn a_folder_without_the_programs_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name| Llama::in_folder(name, folder.path()).map_err(|error| error.to_string());
        let error = of("llama.cpp").unwrap_err();
        assert!(error.contains("llama-quantize"), "{error}");
        fs::write(folder.path().join("llama-bench"), "").unwrap();
        assert!(of("llama.cpp").unwrap_err().contains("llama-quantize"));
        // A fork is only measured: it makes no files. This one does not run, which its version says.
        let fork = of("ik_llama.cpp").unwrap();
        assert!(fork.version.contains("unknown version"), "{fork:?}");
        assert_eq!(fork.server, None);
    }

    #[test]
    fn a_python_without_the_package_is_no_peer() {
        assert!(mistral_version(Path::new("/nowhere/python")).is_err());
    }
}
