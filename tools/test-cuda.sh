#!/usr/bin/env bash
# Tests of everything behind the cargo feature `cuda` on a machine with a GPU.
#   tools/test-cuda.sh pack          here: build, strip and gzip binaries into target/gpu; needs no GPU
#   tools/test-cuda.sh first         there, with target/gpu/first: the kernels against f64; sanitizer
#   tools/test-cuda.sh second        there, with target/gpu/second: the engine; sanitizer
#   tools/test-cuda.sh third         there, with target/gpu/third: the command line, the server, speed
# The machine needs the NVIDIA driver, Python 3 and cuBLAS 13 (its folder on LD_LIBRARY_PATH, or the
# PyPI package nvidia-cublas), no cargo and no network. What one folder brings stays for the next in
# $SELFEXTEND_GPU_HOME: each folder is small enough to be carried with the tree in 64 MiB. Logs go to
# $OUT, or target/gpu/out. ONLY=PATTERN runs only the checks whose names it matches (none: unpacks).
set -uo pipefail
cd "$(dirname "$0")/.."

HOME_THERE=${SELFEXTEND_GPU_HOME:-${TMPDIR:-/tmp}/selfextend-gpu}
MODEL=SmolLM2-135M-Instruct.Q4_1.gguf
SHARED=${SELFEXTEND_SHARED:-../shared}

# The newest executable that cargo made of a target, from its JSON messages.
built() {
  python3 -c '
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    if it.get("executable") and it["target"]["name"] == sys.argv[1]: print(it["executable"])' "$1" | tail -1
}

pack() {
  set -e
  export NVCC=${NVCC:-$(tools/check-cuda.sh --nvcc)}
  local to=target/gpu cache=${SELFEXTEND_CACHE:-$HOME/.cache/selfextend}/models/$MODEL messages name
  mkdir -p $to/first $to/second $to/third
  messages=$(mktemp)
  cargo test --no-run --message-format json -p selfextend-cuda --features cuda,unstable --lib >"$messages"
  cargo build --message-format json -p selfextend-cuda --features cuda,unstable --examples >>"$messages"
  cargo test --no-run --message-format json -p selfextend --features cuda --test cuda >>"$messages"
  cargo build --message-format json -p selfextend --features cuda --example device >>"$messages"
  cargo build --message-format json -p selfextend-cli --features cuda >>"$messages"
  for pair in first:selfextend_cuda second:cuda third:selfextend third:device third:linear third:bench; do
    name=${pair#*:}
    strip -o "$to/$name" "$(built "$name" <"$messages")"
    gzip -9c "$to/$name" >"$to/${pair%:*}/$name.gz"
    rm "$to/$name"
  done
  rm "$messages"
  pwd | tee $to/first/root $to/second/root >$to/third/root
  split -b 52M "$cache" $to/model.
  mv $to/model.aa $to/first/model.0
  mv $to/model.ab $to/second/model.1
  tar -C "$SHARED" -czf $to/second/shared.tar.gz --exclude='long_*' golden models/stories260K
  du -sh $to/*
}

# Unpacks one of the folders, and makes the paths that binaries were built with exist.
unpack() {
  local from=target/gpu/$1
  mkdir -p $HOME_THERE/bin $HOME_THERE/models
  for file in $from/*.gz; do
    case $file in *.tar.gz) continue ;; esac
    gzip -dc $file >$HOME_THERE/bin/$(basename $file .gz)
  done
  chmod +x $HOME_THERE/bin/*
  [ -e $from/root ] && cp $from/root $HOME_THERE/root
  cp $from/model.* $HOME_THERE/ 2>/dev/null
  [ -e $from/shared.tar.gz ] && tar -C $HOME_THERE -xzf $from/shared.tar.gz
  local root
  root=$(cat $HOME_THERE/root)
  if [ ! -e "$root" ]; then
    mkdir -p "$(dirname "$root")" && ln -sfn "$PWD" "$root"
  fi
  if [ -e $HOME_THERE/model.0 ] && [ -e $HOME_THERE/model.1 ]; then
    cat $HOME_THERE/model.0 $HOME_THERE/model.1 >$HOME_THERE/models/$MODEL
  fi
  export SELFEXTEND_CACHE=$HOME_THERE SELFEXTEND_SHARED=$HOME_THERE SELFEXTEND_CUDA=required RUST_BACKTRACE=0
  local blas
  blas=$(python3 -c 'import glob, sys
for path in sys.path: print(*glob.glob(path + "/nvidia/*/lib/libcublas.so.1*"), sep="\n")' | grep . | head -1)
  [ -n "$blas" ] && export LD_LIBRARY_PATH=$(dirname "$blas"):${LD_LIBRARY_PATH:-}
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  echo "cuBLAS: ${blas:-where the system has it}"
}

LOGS=${OUT:-target/gpu/out}
SUMMARY=()

# check NAME SECONDS COMMAND...: runs it, keeps its output, and adds a line to the summary.
check() {
  local name=$1 seconds=$2 start=$SECONDS status verdict=ok
  shift 2
  [[ $name =~ ${ONLY:-} ]] || return 0
  timeout "$seconds" "$@" >"$LOGS/$name.log" 2>&1
  status=$?
  grep -q 'skipped: ' "$LOGS/$name.log" && verdict="ok, but SKIPPED parts"
  [ $status = 0 ] || verdict="FAILED ($status)"
  SUMMARY+=("$(printf '%-28s %s, %d s' "$name" "$verdict" $((SECONDS - start)))")
  grep -E '^test result|ERROR SUMMARY|RACECHECK SUMMARY' "$LOGS/$name.log" | sed "s/^/  $name: /"
  if [ $status != 0 ]; then
    # The beginning of each failure, or the end of what is no test.
    if grep -q 'panicked at' "$LOGS/$name.log"; then
      awk '/panicked at/ { left = 9 } left-- > 0' "$LOGS/$name.log"
    else
      tail -12 "$LOGS/$name.log"
    fi | head -${LINES_SHOWN:-40} | cut -c1-260
  fi
  return $status
}

# The part of each limit that was used, worst first: how tight the error rules are.
used() {
  python3 - "$@" <<'P'
import re, sys
found = []
for path in sys.argv[1:]:
    for line in open(path, errors="replace"):
        it = re.search(r"(.*): (-?[0-9.e+-]+|NaN) \(limit ([0-9.e+-]+)\)", line)
        if it:
            value, limit = float(it[2]), float(it[3])
            found.append((abs(value) / limit if value == value else 1e9, line.strip()[:160]))
found.sort(reverse=True)
print(len(found), "comparisons; the largest parts of their limits:")
for part, line in found[:12]: print(f"  {part:.2f}  {line}")
P
}

tests() { # NAME SECONDS BINARY ARGUMENTS...
  local name=$1 seconds=$2 binary=$HOME_THERE/bin/$3
  shift 3
  check "$name" "$seconds" "$binary" --test-threads 1 --nocapture "$@"
}

sanitize() { # TOOL NAME SECONDS BINARY ARGUMENTS...
  local tool=$1 name=$1-$2 seconds=$3 binary=$HOME_THERE/bin/$4 sanitizer
  shift 4
  [[ $name =~ ${ONLY:-} ]] || return 0
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  if [ -z "$sanitizer" ]; then
    SUMMARY+=("$name                not run: no compute-sanitizer")
    return
  fi
  SELFEXTEND_CUDA_CASES=${CASES:-2} check "$name" "$seconds" "$sanitizer" --tool "$tool" --error-exitcode 9 \
    "$binary" --test-threads 1 --nocapture "$@"
}

first() {
  tests kernels 240 selfextend_cuda
  for tool in memcheck racecheck initcheck synccheck; do
    sanitize $tool attention 90 selfextend_cuda tests::attention::f16_64 tests::attention::bytes_f16_64
  done
  sanitize memcheck blocks 60 selfextend_cuda blocks_continue_bit_for_bit_f16
  sanitize memcheck operations 40 selfextend_cuda tests::ops::f16
  for tool in memcheck racecheck; do
    sanitize $tool linear 60 selfextend_cuda tests::linear
  done
}

answer() {
  $HOME_THERE/bin/selfextend run --device "$1" --max-tokens 40 --temperature 0 "Why is the sky blue? Answer in one sentence."
}

# The same greedy answer from both devices, or where they part.
answers() {
  answer cpu >"$LOGS/cpu.txt" && answer cuda >"$LOGS/cuda.txt" || return 1
  echo "cpu:  $(cat "$LOGS/cpu.txt")"
  echo "cuda: $(cat "$LOGS/cuda.txt")"
  [ -s "$LOGS/cuda.txt" ]
}

# Four requests at once to a server on the GPU, and a long prompt twice: the second time from blocks.
serve() {
  $HOME_THERE/bin/selfextend serve --device cuda --port 18111 &
  local server=$!
  python3 - <<'P'
import json, threading, time, urllib.request
def ask(n, out, text=None, most=24):
    text = text or f"Name {n + 2} animals."
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": most, "temperature": 0}
    request = urllib.request.Request("http://127.0.0.1:18111/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    for attempt in range(60):
        try:
            reply = json.load(urllib.request.urlopen(request, timeout=60))
            out[n] = reply["choices"][0]["message"]["content"]
            return reply["usage"]
        except OSError:
            time.sleep(0.5)
out = {}
threads = [threading.Thread(target=ask, args=(n, out)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
for n in sorted(out): print(n, repr(out[n]))
assert len(out) == 4 and all(out.values()), out
# Past the trained window. Few tokens of answer: what is read again runs on other kernels, which round otherwise.
long = " ".join(f"Item {n} costs {n * n % 97} coins." for n in range(900)) + " What does item 7 cost?"
usages, took = [], []
for n in (10, 11):
    start = time.time()
    usages.append(ask(n, out, long, 8))
    took.append(round(time.time() - start, 3))
tokens, cached = usages[0]["prompt_tokens"], [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
print(f"{tokens} tokens, of them cached {cached}, seconds {took}", repr(out[10]), repr(out[11]))
assert cached[0] < 256 and cached[1] > tokens - 256, cached
assert out[10] == out[11] != "", out
P
  local status=$?
  kill -TERM $server && wait $server
  return $status
}

second() {
  LINES_SHOWN=90 tests engine 300 cuda
  [ ! -e "$LOGS/engine.log" ] || used "$LOGS/engine.log"
  for tool in memcheck racecheck initcheck synccheck; do
    sanitize $tool engine 240 cuda truncating
  done
}

# The end of what a check printed, if it ran.
show() {
  [ ! -e "$LOGS/$1.log" ] || tail -20 "$LOGS/$1.log"
}

third() {
  check answers 60 bash -c "$(declare -f answer answers); HOME_THERE=$HOME_THERE LOGS=$LOGS; answers"
  show answers
  check serve 60 bash -c "$(declare -f serve); HOME_THERE=$HOME_THERE; serve"
  show serve
  check demo 60 $HOME_THERE/bin/selfextend demo --device cuda --tokens 13k
  show demo
  check device-smollm2 60 $HOME_THERE/bin/device $HOME_THERE/models/$MODEL 2048,16384
  show device-smollm2
  SELFEXTEND_CUDA_GRAPHS=0 check device-no-graphs 60 $HOME_THERE/bin/device $HOME_THERE/models/$MODEL 2048,16384
  show device-no-graphs
  check device-8b 240 $HOME_THERE/bin/device random-8b 4096,32768,131072
  show device-8b
  check device-8b-q8_0 150 $HOME_THERE/bin/device random-8b 4096,32768 q8_0
  show device-8b-q8_0
  check bench 150 $HOME_THERE/bin/bench
  show bench
  check linear 150 $HOME_THERE/bin/linear
  show linear
}

case "${1:-}" in
pack) pack ;;
first | second | third)
  mkdir -p "$LOGS"
  unpack "$1"
  "$1"
  printf '%s\n' "--- summary" "${SUMMARY[@]}"
  ! printf '%s\n' "${SUMMARY[@]}" | grep -q FAILED
  ;;
*)
  sed -n '2,12s/^# \{0,1\}//p' "$0"
  exit 2
  ;;
esac
