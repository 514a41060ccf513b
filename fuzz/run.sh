#!/usr/bin/env bash
# Compiles the fuzz targets; with a number, runs each for so many seconds from seeds of our own
# (TARGETS="body block" for some of them). Needs cargo-fuzz (cargo install cargo-fuzz).
# RUSTC_BOOTSTRAP stands in for a nightly toolchain; with one, SANITIZER=address
# RUSTUP_TOOLCHAIN=nightly finds more.
set -euo pipefail
cd "$(dirname "$0")"
export RUSTC_BOOTSTRAP=1
checkpoints=../crates/selfextend/tests/checkpoints
mkdir -p corpus/{gguf,safetensors,config,template}
for folder in "$checkpoints"/*/; do
    name=$(basename "$folder")
    cp "$folder/model.gguf" "corpus/gguf/$name"
    cp "$folder/config.json" "corpus/config/$name"
done
python3 extremes.py "$checkpoints/llama-float16/model.gguf" corpus/gguf
cp "$checkpoints/llama/model.safetensors" corpus/safetensors/llama
printf '%s' "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% endfor %}{{ eos_token }}" \
    > corpus/template/loop
for target in tokenizer body block results profile; do
    mkdir -p "corpus/$target"
    cp "seeds/$target"/* "corpus/$target/"
done
sanitizer=${SANITIZER:-none}
cargo fuzz build --sanitizer "$sanitizer"
for target in ${TARGETS:-gguf safetensors config template tokenizer body block results profile}; do
    [ $# -gt 0 ] || continue
    cargo fuzz run --sanitizer "$sanitizer" "$target" -- -max_total_time="$1" -timeout=20 -rss_limit_mb=2048
done
