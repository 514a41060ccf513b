//! With the feature `cuda`: compiles the kernels with nvcc, for Hopper (sm_90a) and, through sm_80
//! code and its PTX, for everything since Ampere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const KERNELS: [&str; 3] = ["append", "prefill", "decode"];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let nvcc = nvcc();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for kernel in KERNELS {
        compile(&nvcc, kernel, &out);
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

fn compile(nvcc: &Path, kernel: &str, out: &Path) {
    let to = out.join(format!("{kernel}.fatbin"));
    let _ = fs::remove_file(&to);
    let output = Command::new(nvcc)
        .args(["-std=c++17", "-O3", "-fatbin", "-Xptxas", "-v"])
        .args(["-gencode=arch=compute_80,code=[sm_80,compute_80]"])
        .args(["-gencode=arch=compute_90a,code=sm_90a"])
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
