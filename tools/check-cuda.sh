#!/usr/bin/env bash
# Checks that everything behind the cargo feature `cuda` compiles, with CUDA's compiler from PyPI
# (110 MB, once, into target/cuda) unless NVCC names one. Needs Python 3 with pip, and g++; no GPU.
#   tools/check-cuda.sh          compile, lint, and say what registers the kernels use
#   tools/check-cuda.sh --nvcc   only fetch the compiler and print where it is
set -euo pipefail
cd "$(dirname "$0")/.."

CUDA=13.0
PACKAGES=(nvidia-cuda-nvcc nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl nvidia-nvvm)

fetch() {
  local to=target/cuda/$CUDA nvcc=target/cuda/$CUDA/nvidia/cu13/bin/nvcc
  if [ ! -x "$nvcc" ]; then
    rm -rf "$to"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
      --target "$to" "${PACKAGES[@]/%/==$CUDA.*}" >&2
    chmod -R u+x "$to"/nvidia/cu13/bin "$to"/nvidia/cu13/nvvm/bin
  fi
  realpath "$nvcc"
}

export NVCC=${NVCC:-$(fetch)}
if [ "${1:-}" = --nvcc ]; then
  echo "$NVCC"
  exit
fi
cargo clippy -p selfextend-cuda --features cuda,unstable --all-targets -- -D warnings
cargo test -p selfextend-cuda --features cuda,unstable
# The newest report of each kernel file, as `kernel: registers, spills`.
for file in append prefill hopper decode linear experts experts_many blocks; do
  report=$(ls -t target/debug/build/selfextend-cuda-*/out/$file.ptxas | head -1)
  awk '/Compiling entry/ { split($0, part, "\047"); name = part[2] " " part[4] }
       /spill stores/ { spills = $5 } /Used/ { print name ": " $5 " registers, " spills " bytes spilled" }' "$report"
done
