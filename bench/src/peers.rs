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

/// llama.cpp's programs.
#[derive(Debug, Clone)]
pub struct Llama {
    /// `llama-bench`.
    pub bench: PathBuf,
    /// `llama-quantize`.
    pub quantize: PathBuf,
    /// Which llama.cpp it is.
    pub version: String,
}

impl Llama {
    /// The programs in a folder.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let llama = Self::at(folder);
        if !llama.is_there() {
            return Err(BenchError::failure(format!(
                "no llama-bench and llama-quantize in {}",
                folder.display()
            )));
        }
        Ok(Self {
            version: format!("llama.cpp of {}: {}", folder.display(), llama.says()),
            ..llama
        })
    }

    /// Builds the programs under `bench`, unless they exist.
    pub fn prepare(bench: &Path) -> Result<Self> {
        let home = bench.join("llama.cpp");
        let build = home.join("build");
        let llama = Self::at(&build.join("bin"));
        if !llama.is_there() {
            note("building llama.cpp (once; this takes a while)");
            let bin = tools(&home)?;
            let source = source(&home, &bin)?;
            configure(&source, &build, &bin)?;
            let mut command = with_path(&bin, "cmake")?;
            command.arg("--build").arg(&build);
            command.args(["--target", "llama-bench", "llama-quantize"]);
            prepare(&mut command)?;
        }
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
            version: String::new(),
        }
    }

    fn is_there(&self) -> bool {
        self.bench.is_file() && self.quantize.is_file()
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
    command.arg("-DLLAMA_BUILD_SERVER=OFF");
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
        let error = Llama::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("llama-quantize"), "{error}");
    }
}
