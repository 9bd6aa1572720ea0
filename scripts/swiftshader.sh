#!/usr/bin/env bash
# A second implementation of Vulkan: SwiftShader, the software adapter of Chrome. Its subgroups have 4 lanes, and its compiler and
# its rounding share nothing with Mesa's.
#
#     scripts/swiftshader.sh               runs the tests below on it; `make test-swiftshader` builds them before
#     scripts/swiftshader.sh COMMAND ...   runs a command that sees this adapter and no other
#
# SWIFTSHADER may name the folder of libvk_swiftshader.so. Without it the usual places of Chromium and Chrome are searched, and on
# Debian and Ubuntu the package that brings it is installed. The program must be built.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
program="$target/release/altiplano"
# It may have arguments of its own.
read -ra cargo <<<"${CARGO:-cargo}"
library=libvk_swiftshader.so

# Program, kernel cases (ALTIPLANO_CASES; - for all), filters of its tests. With the large tiles of the preset for software
# adapters SwiftShader takes minutes to compile a convolution whose window is 7 wide, so the table of that preset runs on the cases
# that fit no tile, as with checked shaders; the preset for GPUs runs in full.
PARTS=(
    "shaders -"
    "authors - nas_bench_201::"
    "authors - flatness::"
    "authors - croze_f64::"
    "authors - attacks::"
    "authors - proxies::"
    "engine - planner::"
    "engine - kernels::flawed kernels::gather kernels::gradients kernels::products kernels::weights host::"
    "engine 41 kernels::table_with_the_cpu_preset kernels::folded_grids"
    "engine - kernels::table_with_the_gpu_preset"
)
# Seconds for all parts; one that is not done by then has failed.
LIMIT=2700

# What fails on SwiftShader and is no fault of its: program, kernel cases (- for all), test. Each must go on failing; one that passes
# has to leave this list. Nothing does.
KNOWN=()
# Kernel cases that fail in them; empty if none does.
KNOWN_CASES=

# Program, test and reason: what says nothing here, or takes too long.
LEFT_OUT=(
    "engine planner::choosing_takes_at_most_two_milliseconds a time of the host, which no adapter changes"
    "engine kernels::tiles_to_choose_from each of the tiles that tuning may choose is compiled anew; none is this adapter's own"
)

find_library() {
    local folder
    for folder in ${SWIFTSHADER:+"$SWIFTSHADER"} /usr/lib/chromium /usr/lib64/chromium-browser /usr/lib/chromium-browser \
        /opt/google/chrome /opt/chromium.org/chromium; do
        if [ -f "$folder/$library" ]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

if ! folder="$(find_library)"; then
    if ! command -v apt-get >/dev/null; then
        echo "$library was not found; it comes with Chromium and Chrome. SWIFTSHADER may name its folder" >&2
        exit 1
    fi
    echo "$library was not found" >&2
    scripts/apt-install.sh chromium-common libvulkan1
    folder="$(find_library)" || { echo "chromium-common is installed, but there is still no $library" >&2; exit 1; }
fi
icd="$folder/vk_swiftshader_icd.json"
if [ ! -f "$icd" ]; then
    mkdir -p "$target"
    icd="$(cd "$target" && pwd)/vk_swiftshader_icd.json"
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.1.0"}}\n' \
        "$(cd "$folder" && pwd)/$library" >"$icd"
fi
# The first is for loaders since 1.3.207, the second for older ones and for Dawn.
export VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd"
# Drivers complain on stderr if it is missing.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
unset ALTIPLANO_DEVICE

if [ ! -x "$program" ]; then
    echo "$program is not there; build it first: make build" >&2
    exit 1
fi
names="$("$program" devices --json | sed -nE 's/^ *"name": "(.*)",?$/\1/p')"
if [[ "$names" != SwiftShader* || "$names" == *$'\n'* ]]; then
    echo "with $icd alone these adapters are seen, not SwiftShader: ${names:-none}" >&2
    exit 1
fi
echo "adapter: $names, $icd"

if [ $# -gt 0 ]; then
    exec "$@"
fi

mkdir -p runs
log=runs/test-swiftshader.log
: >"$log"
run() { # PROGRAM ARGUMENTS ...
    local left=$((LIMIT - SECONDS))
    if [ "$left" -le 0 ]; then
        echo "the $LIMIT seconds of this run are over" | tee -a "$log"
        return 1
    fi
    timeout "$left" "${cargo[@]}" test --release --test "$1" -- --show-output "${@:2}" 2>&1 | tee -a "$log"
}
wrong=()
times=()
timed() { # WHAT COMMAND ...
    local start=$SECONDS status=0
    "${@:2}" || status=$?
    times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$1")")
    return $status
}

# Program and test of those that a part skips: kernel cases leave their table by name.
SKIPPED=("${LEFT_OUT[@]}")
for entry in "${KNOWN[@]}"; do
    read -r test cases name <<<"$entry"
    [ "$cases" != - ] || SKIPPED+=("$test $name")
done
for entry in "${SKIPPED[@]}"; do
    read -r test name reason <<<"$entry"
    # A name that no test has any more would go unnoticed.
    list="$("${cargo[@]}" test --release --test "$test" -- --list 2>/dev/null)"
    grep -qxF "$name: test" <<<"$list" || wrong+=("there is no test $name in $test")
done
for part in "${PARTS[@]}"; do
    read -r test cases filters <<<"$part"
    skips=()
    for entry in "${SKIPPED[@]}"; do
        read -r other name reason <<<"$entry"
        [ "$other" != "$test" ] || skips+=(--skip "$name")
    done
    export ALTIPLANO_CASES="${cases#-}" ALTIPLANO_WITHOUT="$KNOWN_CASES"
    # shellcheck disable=SC2086 # Filters are words.
    timed "$part" run "$test" $filters "${skips[@]}" || wrong+=("$part failed or was not done in time")
done
for entry in "${KNOWN[@]}"; do
    read -r test cases name <<<"$entry"
    what="$name, cases $cases, known to differ"
    export ALTIPLANO_CASES="${cases#-}" ALTIPLANO_WITHOUT=
    before=$(wc -l <"$log")
    timed "$what" run "$test" --exact "$name" || true
    tail -n +$((before + 1)) "$log" | grep -E "^test $name \.\.\. FAILED" >/dev/null ||
        wrong+=("$what, does not fail: take it off the list in $0")
done
for entry in "${LEFT_OUT[@]}"; do
    read -r test name reason <<<"$entry"
    echo "left out: $name: $reason" | tee -a "$log"
done

# A run in which no test reached the adapter is no success, so what the tests print of it is looked for.
grep -qE '^adapter: SwiftShader' "$log" || wrong+=("no test ran on the adapter")
grep -E '^[1-9][0-9]* of [0-9]+ cases in [1-9][0-9]* runs on SwiftShader' "$log" || wrong+=("no kernel case ran on the adapter")
printf '%s\n' "${times[@]}" "$(printf '%5d s  in all' $SECONDS)"
if [ ${#wrong[@]} -gt 0 ]; then
    printf '%s\n' "${wrong[@]}" >&2
    exit 1
fi
echo "all as expected on $names: ${#KNOWN[@]} known differences, ${#LEFT_OUT[@]} tests left out"
