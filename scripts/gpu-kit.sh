#!/usr/bin/env bash
# Packs target/gpu-kit/gpu-kit.tar.gz (at most 40 MB) and puts run.sh beside it: everything that a Linux machine with a GPU and nothing else
# needs to test and time this build. The tests must be built: `make gpu-kit` does both.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
most=40000000

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
kit="$folder/gpu-kit"
mkdir -p "$kit/tests" "$kit/peers"

# Where cargo put a test program.
program() {
    cargo test --release --test "$1" --no-run --message-format=json 2>/dev/null |
        sed -nE 's/.*"name":"'"$1"'".*"executable":"([^"]+)".*/\1/p' | tail -1
}
put() {
    cp "$1" "$kit/$2"
    if command -v strip >/dev/null; then strip "$kit/$2"; fi
}
put "$target/release/altiplano" altiplano
for test in engine authors; do
    path="$(program "$test")"
    [ -x "$path" ] || { echo "the test program $test is not built; run make gpu-kit" >&2; exit 1; }
    put "$path" "$test"
done
cp -r tests/golden "$kit/tests/"
cp peers/*.py "$kit/peers/"
{ git rev-parse HEAD; git diff --quiet HEAD -- || echo "with changes"; } 2>/dev/null | paste -sd' ' >"$kit/COMMIT" || true

mkdir -p "$target/gpu-kit"
tar -C "$folder" -czf "$target/gpu-kit/gpu-kit.tar.gz" gpu-kit
cp scripts/kit/run.sh "$target/gpu-kit/run.sh"
bytes="$(wc -c <"$target/gpu-kit/gpu-kit.tar.gz")"
if [ "$bytes" -gt "$most" ]; then
    echo "$target/gpu-kit/gpu-kit.tar.gz has $bytes bytes, more than $most" >&2
    exit 1
fi
echo "$target/gpu-kit: gpu-kit.tar.gz ($bytes bytes) and run.sh; on the machine: bash run.sh OUT [MINUTES]"
