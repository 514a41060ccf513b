#!/usr/bin/env bash
# The runs of EVALUATION.md, on SmolLM2-135M. Needs ../shared (or DATA=) and a release build.
#   eval/full.sh            everything on this machine, one task after another
#   SHARD=2/4 eval/full.sh  part 2 of 4, e.g. one of four machines; then, with all parts in $OUT,
#   eval/full.sh merge 4    joins them and writes the reports
# Every command resumes where it stopped. `--dry-run` as EXTRA says what each would cost.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-../shared/data}
OUT=${OUT:-eval/results}
SHARD=${SHARD:-1/1}
EXTRA=${EXTRA:-}
BIN=${BIN:-target/release/selfextend}
mkdir -p "$OUT"

# Chosen on two books, reported on the other nine.
CHOOSE="10146 10356"
REPORT="22424 26183 26493 28444 40579 41607 46915 47676 49529"
BEST=${BEST:-selfextend:G=4,W=1024}
books() { for book in $1; do printf '%s ' "$DATA/pg19/$book.txt"; done; }
BOTH="--method plain --method selfextend:auto --method $BEST"

run() { # name, task, arguments
  local name=$1; shift
  "$BIN" eval "$@" --shard "$SHARD" --results "$OUT/$name.${SHARD/\//of}.jsonl" --html "$OUT/$name.html" $EXTRA
}

all() {
  run choose-ppl perplexity $(books "$CHOOSE") --lengths 8k,16k --method selfextend:G=4,W=1024 \
    --method selfextend:G=4,W=2048 --method selfextend:G=8,W=1024 --method selfextend:G=8,W=2048 --method selfextend:G=6,W=2048
  run ppl perplexity $(books "$REPORT") --lengths 4k,8k,12k,16k $BOTH
  run passkey passkey --lengths 4k,8k,12k,16k,20k,24k --depths 0.1,0.3,0.5,0.7,0.9 --trials 4 $BOTH
  run needle needle --haystack "$DATA/paul-graham-essays" --lengths 2k,4k,8k,12k,16k --depths 0,0.25,0.5,0.75,1 $BOTH
  run ruler ruler --essays "$DATA/paul-graham-essays" --lengths 4k,8k,16k --samples 5 $BOTH
  run leval-topics leval "$DATA/leval/topic_retrieval_longchat.jsonl" --documents 10 --chat $BOTH
  run choice choice "$DATA"/short/*.jsonl "$DATA/short/hellaswag_val_full.txt" --items 200 \
    --method plain --method selfextend:G=2,W=512 --method selfextend:G=8,W=512
  run ablation ablation "$DATA/tinystories/tinystories_val.txt" -m "$DATA/../models/stories260K/stories260K-f32.gguf" \
    --lengths 512,1k,2k,4k,8k --group-sizes 2,4,8,16,32 --neighbor-windows 32,64,128,256 --segments 4
}

if [ "${1:-}" = merge ]; then
  for first in "$OUT"/*.1of"$2".jsonl; do
    name=$(basename "$first" ".1of$2.jsonl")
    "$BIN" eval merge "$OUT/$name".*of"$2".jsonl -o "$OUT/$name.jsonl" --html "$OUT/$name.html"
  done
else
  all
fi
