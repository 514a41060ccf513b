#!/usr/bin/env bash
# Checks what `cargo package` wrote to target/package for the crates named: the README and both
# licences are inside, no tests' checkpoints are, and the archive is far below crates.io's 10 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=1000000
for crate in "$@"; do
    archive=$(ls -t target/package/"$crate"-[0-9]*.crate | head -1)
    files=$(tar -tzf "$archive" | cut -d/ -f2-)
    for needed in README.md LICENSE-MIT LICENSE-APACHE Cargo.toml; do
        grep -qxF "$needed" <<< "$files" || { echo "$archive: no $needed" >&2; exit 1; }
    done
    if grep -E '\.(gguf|safetensors)$' <<< "$files" >&2; then
        echo "$archive: models do not belong into a package" >&2
        exit 1
    fi
    size=$(stat -c %s "$archive" 2> /dev/null || stat -f %z "$archive")
    if [ "$size" -gt "$limit" ]; then
        echo "$archive: $size bytes, more than $limit" >&2
        exit 1
    fi
    echo "$crate: $(wc -l <<< "$files") files, $size bytes"
done
