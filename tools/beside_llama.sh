#!/usr/bin/env bash
# Our server and llama.cpp's on the same file, threads and load, in turns:
#   tools/beside_llama.sh LLAMA_SERVER MODEL.gguf [THREADS [ROUNDS]]
# `cargo run --release -p selfextend-bench -- --preset short` builds it
# (target/bench/llama.cpp/build/bin/llama-server). Prints a line of JSON for
# each run (tools/load.py chats): 8 clients, chats of 300 tokens and of 2,000, 64 tokens each answer.
set -euo pipefail
cd "$(dirname "$0")/.."
llama=$1 model=$2 threads=${3:-2} rounds=${4:-2}
binary=${SELFEXTEND:-target/release/selfextend}
log=$(mktemp -d)
"$binary" serve -m "$model" --port 18080 --threads "$threads" --context 8k --kv-memory 2g --parallel 8 2>"$log/ours" &
pids=$!
trap 'kill $pids 2>/dev/null; rm -rf "$log"' EXIT
"$llama" -m "$model" --port 18081 -t "$threads" -tb "$threads" -c 24576 -np 8 >"$log/theirs" 2>&1 &
pids="$pids $!"
for port in 18080 18081; do
  up=
  for _ in $(seq 300); do
    curl -sf "http://127.0.0.1:$port/health" >/dev/null && up=1 && break
    sleep 0.2
  done
  [ -n "$up" ] || { tail "$log"/* >&2; exit 1; }
done
for size in "300 ${CHATS:-24}" "2000 ${LONG_CHATS:-8}"; do
  set -- $size
  for round in $(seq "$rounds"); do
    for server in ours:18080 llama.cpp:18081; do
      # The same chats for both, other ones in each round: neither finds them cached.
      printf '%s, %s tokens, round %s: ' "${server%%:*}" "$1" "$round"
      python3 tools/load.py chats "http://127.0.0.1:${server##*:}" --prompt-tokens "$1" --requests "$2" --seed "$1$round"
    done
  done
done
