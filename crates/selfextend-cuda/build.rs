//! With the feature `cuda`: compiles the kernels with nvcc, for everything since Ampere (sm_80 code
//! and its PTX), and what uses Hopper's own instructions for sm_90a. Where only documentation is
//! built (docs.rs sets DOCS_RS) the kernels are empty files, so no compiler is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SINCE_AMPERE: &str = "-gencode=arch=compute_80,code=[sm_80,compute_80]";
const HOPPER: &str = "-gencode=arch=compute_90a,code=sm_90a";

/// Where set, kernels run on Hopper alone, and compile in a third of the time: for work on them.
const ONLY_HOPPER: &str = "SELFEXTEND_CUDA_ONLY_HOPPER";

/// Each file of kernels with what it is compiled for.
const KERNELS: [(&str, &[&str]); 9] = [
    ("append", &[SINCE_AMPERE, HOPPER]),
    ("prefill", &[SINCE_AMPERE, HOPPER]),
    ("decode", &[SINCE_AMPERE, HOPPER]),
    ("hopper", &[HOPPER]),
    ("linear", &[SINCE_AMPERE, HOPPER]),
    ("experts", &[SINCE_AMPERE, HOPPER]),
    ("experts_many", &[SINCE_AMPERE, HOPPER]),
    ("blocks", &[SINCE_AMPERE]),
    ("ops", &[SINCE_AMPERE]),
];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "DOCS_RS", ONLY_HOPPER] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if env::var_os("DOCS_RS").is_some() {
        // Documentation is built where there is no compiler for the kernels, and runs none.
        for (kernel, _) in KERNELS {
            fs::write(out.join(format!("{kernel}.fatbin")), []).expect("OUT_DIR can be written");
        }
        return;
    }
    let nvcc = nvcc();
    let only_hopper = env::var_os(ONLY_HOPPER).is_some();
    for (kernel, targets) in KERNELS {
        let targets = if only_hopper { &[HOPPER] } else { targets };
        compile(&nvcc, kernel, targets, &out);
    }
}

/// `$NVCC`, the toolkit that CUDA_HOME or CUDA_PATH names, the usual place, the search path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    let toolkits = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os);
    toolkits
        .map(PathBuf::from)
        .chain([PathBuf::from("/usr/local/cuda")])
        .map(|toolkit| toolkit.join("bin/nvcc"))
        .find(|nvcc| nvcc.exists())
        .unwrap_or_else(|| "nvcc".into())
}

fn compile(nvcc: &Path, kernel: &str, targets: &[&str], out: &Path) {
    let to = out.join(format!("{kernel}.fatbin"));
    let _ = fs::remove_file(&to);
    let output = Command::new(nvcc)
        .args(["-std=c++17", "-O3", "-fatbin", "-Xptxas", "-v"])
        .args(targets)
        .arg("-o")
        .arg(&to)
        .arg(format!("kernels/{kernel}.cu"))
        .output();
    match output {
        Ok(output) if output.status.success() => {
            // Registers and spills of every kernel, for whoever tunes them.
            let _ = fs::write(out.join(format!("{kernel}.ptxas")), output.stderr);
        }
        Ok(output) => panic!(
            "{} failed on {kernel}.cu:\n{}",
            nvcc.display(),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!(
            "the feature `cuda` needs CUDA's compiler, and {} could not be run ({error}): set NVCC \
             or CUDA_HOME, or let tools/check-cuda.sh fetch it from PyPI",
            nvcc.display()
        ),
    }
}
