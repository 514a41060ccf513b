#!/usr/bin/env bash
# The runs of EVALUATION.md, on SmolLM2-135M. Needs ../shared (or DATA=) and a release build.
#   eval/full.sh            everything on this machine, one task after another (days on two cores)
#   DEVICE=cuda eval/full.sh   on a GPU (minutes; a build with the feature `cuda`)
#   SHARD=2/4 eval/full.sh  part 2 of 4, e.g. one of four machines; then, with all parts in $OUT,
#   eval/full.sh merge 4    joins them and writes the reports, and leaderboard.html of all
# Every command resumes where it stopped. `--dry-run` as EXTRA says what each would cost.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-../shared/data}
OUT=${OUT:-eval/results}
SHARD=${SHARD:-1/1}
EXTRA=${EXTRA:-}
BIN=${BIN:-target/release/selfextend}
STORIES=$DATA/../models/stories260K/stories260K-f32.gguf
mkdir -p "$OUT"

# Chosen on two books, reported on the other nine.
CHOOSE="10146 10356"
REPORT="22424 26183 26493 28444 40579 41607 46915 47676 49529"
DEVICE=${DEVICE:-cpu}
BEST=${BEST:-selfextend:G=4,W=2048}
books() { for book in $1; do printf '%s ' "$DATA/pg19/$book.txt"; done; }
BOTH="--method plain --method selfextend:auto --method $BEST"

run() { # name, task, arguments
  local name=$1; shift
  "$BIN" "$@" --device "$DEVICE" --shard "$SHARD" --results "$OUT/$name.${SHARD/\//of}.jsonl" --html "$OUT/$name.html" --up-to 1000 $EXTRA
}

all() {
  run choose eval ablation $(books "$CHOOSE") --lengths 8k,16k --group-sizes 3,4,6,8,16 --neighbor-windows 512,1024,2048,4096
  run ppl eval perplexity $(books "$REPORT") --lengths 4k,8k,12k,16k $BOTH
  run passkey eval passkey --lengths 4k,8k,12k,16k,24k,32k --depths 0.1,0.3,0.5,0.7,0.9 --trials 2 --seed 100 \
    --wordings authors,no-space,line,question --method plain --method selfextend:auto \
    --method selfextend:G=8,W=1024 --method selfextend:G=32,W=256 --method rerope:W=512
  run passkey-methods eval passkey --lengths 4k,8k,16k,24k --depths 0.1,0.3,0.5,0.7,0.9 --trials 1 --seed 200 \
    --wordings authors,no-space,line,question \
    $(for it in plain pi ntk yarn selfextend:auto rerope leaky-rerope dca jet-long self lampe streaming-llm lm-infinite; do echo "--method $it"; done)
  run needle eval needle --chat --haystack "$DATA/paul-graham-essays" --lengths 2k,4k,8k,12k,16k --depths 0,0.25,0.5,0.75,1 \
    --method "$BEST" --method plain
  run ruler eval ruler --essays "$DATA/paul-graham-essays" --lengths 4k,8k,16k --samples 6 $BOTH
  run ruler-qa eval ruler --tasks qa_1 --squad "$DATA/squad/xquad.en.json" --lengths 4k,8k,16k --samples 50 --chat $BOTH
  run babilong eval babilong --facts "$DATA/babi" --books $(books "$REPORT") --lengths 4k,8k,16k --samples 25 --chat $BOTH
  run mrcr eval mrcr --books $(books "$REPORT") --lengths 4k,8k,16k --needles 2,4 --samples 20 --chat $BOTH
  run graphwalks eval graphwalks --lengths 4k,8k,16k --samples 20 --chat $BOTH
  run leval-topics eval leval "$DATA/leval/topic_retrieval_longchat.jsonl" --chat $BOTH
  run longbench eval longbench "$DATA/longbench/multi_news.jsonl" --items 10 --chat $BOTH
  run choice eval choice "$DATA"/short/*.jsonl "$DATA/short/hellaswag_val_full.txt" --items 200 \
    --method plain --method selfextend:G=2,W=512 --method selfextend:G=8,W=512
  run compare compare $(books "22424 26183") --lengths 4k,8k,16k,24k --depths 0.1,0.5,0.9 --trials 4
  run compare-stories compare "$DATA/tinystories/tinystories_val.txt" -m "$STORIES" --lengths 512,1k,2k,4k,8k --segments 4 --no-passkey
  run ablation eval ablation "$DATA/tinystories/tinystories_val.txt" -m "$STORIES" \
    --lengths 512,1k,2k,4k,8k --group-sizes 2,4,8,16,32 --neighbor-windows 32,64,128,256 --segments 4
}

if [ "${1:-}" = merge ]; then
  joined=()
  for first in "$OUT"/*.1of"$2".jsonl; do
    name=$(basename "$first" ".1of$2.jsonl")
    "$BIN" eval merge "$OUT/$name".*of"$2".jsonl -o "$OUT/$name.jsonl" --html "$OUT/$name.html"
    joined+=("$OUT/$name.jsonl")
  done
  "$BIN" eval leaderboard "${joined[@]}" --html "$OUT/leaderboard.html" > /dev/null
else
  all
fi
