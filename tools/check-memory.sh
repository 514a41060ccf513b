#!/usr/bin/env bash
# Memory and threads of selfextend-attention, each check in a target folder of its own:
#   tools/check-memory.sh loom      the work queue under every interleaving
#   tools/check-memory.sh miri      parallel.rs and the caches, at the scalar level (nightly with miri)
#   tools/check-memory.sh address   AddressSanitizer over the crate's tests, at all levels (nightly)
set -euo pipefail
cd "$(dirname "$0")/.."

# The kernels take long to optimise, and these tests are small.
export CARGO_PROFILE_DEV_OPT_LEVEL=0

case ${1:-} in
loom)
  RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
    cargo test -p selfextend-attention --lib -- parallel::model
  ;;
miri)
  # Under Stacked Borrows, Miri refuses crossbeam-epoch, beneath rayon. Rayon's threads outlive tests.
  MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-disable-isolation" \
    CARGO_TARGET_DIR=target/miri \
    cargo +nightly miri test -p selfextend-attention --lib -- \
    parallel::tests::every cache::quantized cache::block
  ;;
address)
  RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/address \
    cargo +nightly test -p selfextend-attention --lib --target x86_64-unknown-linux-gnu
  ;;
*)
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
  ;;
esac
