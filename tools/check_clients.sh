#!/usr/bin/env bash
# Runs the unmodified `openai` packages (PyPI, npm) and, where there is a Chromium, the web page
# against the real binary: tools/check_clients.sh [MODEL]. Packages go to target/clients; what is
# absent is skipped with a message. Screenshots of the page are left in target/clients/page.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-smollm2-135m}
binary=${SELFEXTEND:-target/debug/selfextend}
place=target/clients
mkdir -p "$place"

log=$(mktemp)
"$binary" serve -m "$model" --alias under-test --port 0 --kv-memory 2g 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 600); do
  url=$(sed -n 's/.* on \(http:[^ ]*\)$/\1/p' "$log")
  [ -n "$url" ] && break
  kill -0 $server 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done

if command -v python3 >/dev/null; then
  [ -x "$place/venv/bin/python" ] || python3 -m venv "$place/venv"
  "$place/venv/bin/pip" install --quiet --disable-pip-version-check openai
  "$place/venv/bin/python" tools/openai_client.py "$url" under-test
else
  echo "skipped: no python3 for the Python client"
fi
if command -v npm >/dev/null; then
  cp tools/*.mjs "$place/"
  npm install --silent --no-fund --no-audit --prefix "$place" openai playwright-core
  node "$place/openai_client.mjs" "$url" under-test
  chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
  if [ -n "$chromium" ]; then
    CHROMIUM=$chromium node "$place/page.mjs" "$url" "$place/page"
  else
    echo "skipped: no chromium for the page (apt-get install chromium)"
  fi
else
  echo "skipped: no npm for the JavaScript client and the page"
fi
