#!/usr/bin/env bash
# The work queue of selfextend-attention under every interleaving of threads, with loom.
set -euo pipefail
cd "$(dirname "$0")/.."

# The kernels take long to optimise, and the models do not run them.
export CARGO_PROFILE_DEV_OPT_LEVEL=0
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
  cargo test -p selfextend-attention --lib -- parallel::model
