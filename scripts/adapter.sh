#!/usr/bin/env bash
# Makes sure that there is an adapter to run on: a GPU's, or the software adapter of Mesa.
# On Debian and Ubuntu it installs the package that is missing; elsewhere it says which one is. The program must be built.
set -euo pipefail
cd "$(dirname "$0")/.."
program="${CARGO_TARGET_DIR:-target}/release/altiplano"
if [ ! -x "$program" ]; then
    echo "$program is not there; build it first: make build" >&2
    exit 1
fi

found() {
    # `devices --json` prints a list; without an adapter it is empty.
    "$program" devices --json 2>/dev/null | grep -q '"name"'
}

if found; then
    exit 0
fi
if [ "$(uname -s)" != Linux ]; then
    echo "no adapter with Metal or DX12 was found; altiplano needs a graphics driver" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "no Vulkan adapter was found" >&2
    "$program" devices --explain >&2 || true
    exit 1
fi
echo "no Vulkan adapter was found" >&2
scripts/apt-install.sh mesa-vulkan-drivers libvulkan1
if ! found; then
    echo "mesa-vulkan-drivers is installed, but there is still no Vulkan adapter:" >&2
    "$program" devices --explain >&2 || true
    exit 1
fi
