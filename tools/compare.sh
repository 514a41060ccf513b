#!/usr/bin/env bash
# Compares our next-token probabilities with llama.cpp's on the same file and text.
#
#   tools/compare.sh MODEL.gguf TEXT.txt [TOKENS]
#
# Needs the llama.cpp that `cargo run --release -p selfextend-bench` builds (LLAMA_DIR names
# another), Python 3 with numpy (PYTHON names one) and a C++ compiler.
set -euo pipefail
model=$1 text=$2 tokens=${3:-512}
cd "$(dirname "$0")/.."
llama=${LLAMA_DIR:-target/bench/llama.cpp}
source=$(dirname "$(find "$llama"/ -name llama.h -path '*include*' | head -n 1)")/..
build=$(dirname "$(find "$llama"/ -name libllama.a | head -n 1)")/..
out=target/compare
mkdir -p "$out"
g++ -O2 -fopenmp -o "$out/llama_logits" tools/llama_logits.cpp \
    -I"$source/include" -I"$source/ggml/include" \
    -Wl,--start-group "$build/src/libllama.a" "$build"/ggml/src/*.a -Wl,--end-group -lpthread -ldl
cargo run --quiet -p selfextend --example logits -- "$model" "$text" "$tokens" "$out"
"$out/llama_logits" "$model" "$out/ids.json" "$out/theirs.f32" 2> "$out/llama.log"
"${PYTHON:-python3}" tools/compare.py "$out"
