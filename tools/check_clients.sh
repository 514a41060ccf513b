#!/usr/bin/env bash
# Runs the unmodified `openai` packages (PyPI, npm), `anthropic`, `ollama` and `prometheus_client` against the
# real binary; with --agents `instructor`, `langchain-openai` and `pydantic-ai` too, whose installation may
# take long; with --page the web page in a headless Chromium, whose long document takes minutes to read; with
# --lm-eval EleutherAI's `lm_eval`, whose log-likelihoods must be those of `eval choice`:
#   tools/check_clients.sh [--agents] [--page] [--lm-eval QUESTIONS.jsonl] [MODEL]
# With a model that can call functions by itself (qwen2.5-coder-1.5b), a whole round trip is checked too.
# Packages go to target/clients, screenshots to target/clients/page. What is absent or cannot be
# installed is skipped with a message.
set -euo pipefail
cd "$(dirname "$0")/.."
agents=
page=
questions=
while :; do
  case ${1:-} in
    --agents) agents=1; shift ;;
    --page) page=1; shift ;;
    --lm-eval) questions=$2; shift 2 ;;
    *) break ;;
  esac
done
model=${1:-smollm2-135m}
binary=${SELFEXTEND:-target/debug/selfextend}
place=target/clients
mkdir -p "$place"

log=$(mktemp)
"$binary" serve -m "$model" --alias under-test --alias "$model" --port 0 --kv-memory 2g 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -f "$log"' EXIT
url=
for _ in $(seq 600); do
  url=$(sed -n 's/.* on \(http:[^ ]*\)$/\1/p' "$log")
  [ -n "$url" ] && break
  kill -0 $server 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
[ -n "$url" ] || { echo "the server does not listen" >&2; exit 1; }

with_python() {
  python3 -m venv "$place/venv" && "$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    openai anthropic ollama prometheus_client
}
with_npm() {
  npm install --silent --no-fund --no-audit --prefix "$place" openai playwright-core
}
if with_python; then
  "$place/venv/bin/python" tools/openai_client.py "$url" under-test
  "$place/venv/bin/python" tools/dialect_clients.py "$url" under-test
  [ -z "$agents" ] || "$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    instructor langchain-openai 'pydantic-ai-slim[openai]'
  able=
  [ "$model" = smollm2-135m ] || able=--round-trip
  "$place/venv/bin/python" tools/tool_clients.py "$url" under-test $able
else
  echo "skipped: the packages for Python cannot be installed"
fi
if [ -n "$questions" ]; then
  "$place/venv/bin/pip" install --quiet --disable-pip-version-check "lm_eval[api]"
  "$place/venv/bin/python" tools/lm_eval_client.py "$url" "$binary" "$model" "$questions"
fi
cp tools/*.mjs "$place/"
if with_npm; then
  node "$place/openai_client.mjs" "$url" under-test
  chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
  if [ -n "$page" ] && [ -n "$chromium" ]; then
    CHROMIUM=$chromium node "$place/page.mjs" "$url" "$place/page"
  elif [ -n "$page" ]; then
    echo "skipped: no chromium for the page (apt-get install chromium)"
  fi
else
  echo "skipped: the openai package for JavaScript cannot be installed"
fi
