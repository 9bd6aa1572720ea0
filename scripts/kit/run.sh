#!/usr/bin/env bash
# Tests and benchmarks of altiplano on a Linux machine that has a GPU and need have nothing else: no toolchain, no network, no
# repository. Usage:
#
#     bash run.sh OUT [MINUTES]          5 minutes unless told otherwise
#
# OUT gets at most eight files, rewritten after each step, so that what was measured is there whenever this ends:
#
#     summary.json      machine, adapters, and each step with its exit status and seconds
#     selftest.json     kernels and gradients against f64, determinism
#     steps.json        training steps and forward passes, SAM beside SGD; with the adapter's ceilings
#     populations.json  noise draws, trainers and a generation side by side, against one by one
#     kernels.json      single convolutions, and ResNet-50
#     tests.txt         kernel, planner and golden tests
#     torch.json        the same items in PyTorch, if python3 has torch
#     jobs.json         a scoring, a corruption and a search, timed
#
# Steps come in order of worth. Each is bounded in time, and none that fails ends the others. Nothing is installed. Where there is
# no Vulkan loader, packages of one (libvulkan1_*.deb) in a folder `debs` beside this file are unpacked into a scratch folder.
set -uo pipefail
unset CDPATH

if [ $# -lt 1 ] || [ $# -gt 2 ] || ! [[ "${2:-5}" =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: bash run.sh OUT [MINUTES]" >&2
    exit 2
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$1" || exit 2
out="$(cd "$1" && pwd)"
total=$((${2:-5} * 60))
command -v timeout >/dev/null || { echo "this needs \`timeout\`, which coreutils has" >&2; exit 2; }
rm -f "$out"/{summary,selftest,steps,populations,kernels,torch,jobs}.json "$out/tests.txt"
# What is left for the last file.
reserve=8
work="$(mktemp -d "${TMPDIR:-/tmp}/altiplano-kit.XXXXXX")" || exit 2
trap 'rm -rf "$work"' EXIT
child=
trap 'kill $child 2>/dev/null; exit 130' INT TERM
SECONDS=0

tar -xzf "$here/gpu-kit.tar.gz" -C "$work" || { echo "gpu-kit.tar.gz beside this file cannot be unpacked" >&2; exit 2; }
kit="$work/gpu-kit"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$work}" ALTIPLANO_CACHE="$work/cache" ALTIPLANO_ROOT="$kit"
unset RUST_LOG

# Text as a JSON string.
quote() {
    local text="$1"
    text="${text//\\/\\\\}"
    text="${text//\"/\\\"}"
    text="${text//$'\t'/ }"
    text="${text//$'\r'/}"
    text="${text//$'\n'/\\n}"
    printf '"%s"' "$(printf '%s' "$text" | tr -d '\000-\010\013\014\016-\037')"
}

steps=""
devices="[]"
loader="found"
gpu="$(timeout 10 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -4)"
cores="$(nproc 2>/dev/null || echo 0)"
machine() {
    printf '{"date": %s, "commit": %s, "system": %s, "processor": %s, "cores": %s, "nvidia_smi": %s, "vulkan_loader": %s}' \
        "$(quote "$(date -u +%Y-%m-%dT%H:%M:%SZ)")" "$(quote "$(cat "$kit/COMMIT" 2>/dev/null)")" "$(quote "$(uname -sr)")" \
        "$(quote "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1)")" "$cores" \
        "$(quote "$gpu")" "$(quote "$loader")"
}
summary() {
    printf '{"minutes": %s, "seconds": %s, "machine": %s,\n"devices": %s,\n"steps": [%s]}\n' \
        "$((total / 60))" "$SECONDS" "$(machine)" "$devices" "$steps" >"$out/.summary" && mv "$out/.summary" "$out/summary.json"
}

# step NAME SHARE COMMAND...: runs a command for at most SHARE per cent of all time and no longer than is left.
step() {
    local name="$1" share="$2" left limit start status verdict said=""
    shift 2
    left=$((total - reserve - SECONDS))
    limit=$((total * share / 100))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 3 ]; then
        status=-1 verdict="no time was left" start=$SECONDS
    else
        echo "$name: at most $limit s" >&2
        start=$SECONDS
        # In the background, so that a signal to this script reaches what it runs.
        LIMIT=$limit timeout -k 3 "$limit" "$@" </dev/null 2>"$work/stderr" &
        child=$!
        wait $child
        status=$?
        child=
        case $status in
            0) verdict="done" ;;
            124 | 137) verdict="ended after $((SECONDS - start)) s" ;;
            *) verdict="failed" said="$(tail -c 1000 "$work/stderr")" ;;
        esac
        [ -n "$said" ] && echo "$said" >&2
    fi
    echo "$name: $verdict, $((SECONDS - start)) s" >&2
    steps="$steps${steps:+,}
{\"name\": $(quote "$name"), \"status\": $status, \"verdict\": $(quote "$verdict"), \"seconds\": $((SECONDS - start)), \"limit\": $limit, \"said\": $(quote "$said")}"
    summary
}

# A loader of Vulkan: the machine's, or one that lies beside this file.
case "$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null)" in
    *libvulkan.so.1*) ;;
    *) loader="none" ;;
esac
for file in /usr/lib*/libvulkan.so.1 /usr/lib/*/libvulkan.so.1 /usr/local/lib*/libvulkan.so.1; do
    if [ -e "$file" ]; then loader="found"; fi
done
if [ "$loader" = none ]; then
    mkdir -p "$work/root"
    for package in "$here"/debs/*.deb; do
        [ -e "$package" ] || continue
        if command -v dpkg-deb >/dev/null; then
            dpkg-deb -x "$package" "$work/root" && loader="unpacked"
        else
            (cd "$work/root" && ar x "$package" && tar -xf data.tar.*) && loader="unpacked"
            rm -f "$work"/root/*.tar.* "$work/root/debian-binary"
        fi
    done
    if [ "$loader" = none ]; then
        echo "there is no Vulkan loader: Debian and Ubuntu have it in libvulkan1, Fedora in vulkan-loader, Arch in vulkan-icd-loader;" >&2
        echo "install it, or put libvulkan1_*.deb into $here/debs, from which it is unpacked for this run alone" >&2
    else
        for folder in "$work"/root/usr/lib/*/ "$work"/root/usr/lib/; do
            LD_LIBRARY_PATH="${folder%/}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        done
        export LD_LIBRARY_PATH
    fi
fi
# A driver of NVIDIA's whose description is where no loader looks.
description="$(ls /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd*.json 2>/dev/null | head -1)"
known="$(ls /usr/share/vulkan/icd.d/nvidia* /etc/vulkan/icd.d/nvidia* 2>/dev/null | head -1)"
if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && [ -z "$known" ] && [ -n "$description" ]; then
    # Older loaders know the second name only.
    export VK_DRIVER_FILES="$description" VK_ICD_FILENAMES="$description"
    export LD_LIBRARY_PATH="/usr/local/nvidia/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi

altiplano="$kit/altiplano"
if ! "$altiplano" --version >/dev/null 2>"$work/stderr"; then
    echo "the program does not start here: $(tail -c 500 "$work/stderr")" >&2
    echo "it needs a C library as new as that of the machine that built it, and $work must allow programs (TMPDIR names another place)" >&2
    exit 1
fi
# whole FILE COMMAND...: what a command prints, as a file that is there only if the command got to its end.
whole() {
    local file="$1" part="$work/part" status
    shift
    "$@" >"$part"
    status=$?
    # JSON that was cut off does not end so.
    case "$(tail -c 2 "$part" | tr -d '\n')" in *[\]\}]) mv "$part" "$file" ;; esac
    return $status
}
list() { whole "$work/devices.json" "$altiplano" devices --json; }
bench() { # FILE SUITE MORE...
    local file="$1" suite="$2"
    shift 2
    "$altiplano" bench --suite "$suite" --budget "$((LIMIT > 12 ? LIMIT - 8 : 4))" --out "$out/$file" --force "$@" >/dev/null
}
selftest() { whole "$out/selftest.json" "$altiplano" selftest --json; }
tests() { # PROGRAM FILTER...
    local program="$1" log="$work/$1.txt" status
    shift
    "$kit/$program" "$@" >"$log" 2>&1
    status=$?
    return $status
}
join_tests() {
    for log in "$work"/engine.txt "$work"/authors.txt; do
        [ -s "$log" ] && { echo "== $(basename "$log" .txt)"; tail -c 400000 "$log"; }
    done >"$out/tests.txt"
}
torch_peer() { # MODE DEVICE
    python3 "$kit/peers/torch_bench.py" --device "$2" --mode "$1" --samples 5 --budget "$((LIMIT > 12 ? LIMIT - 8 : 4))" \
        --out "$work/torch-$1.json" --json >/dev/null
}
join_torch() {
    local first=1
    {
        printf '{'
        for file in "$work"/torch-*.json; do
            [ -s "$file" ] || continue
            [ $first = 1 ] || printf ',\n'
            first=0
            printf '"%s": ' "$(basename "$file" .json | sed 's/^torch-//')"
            cat "$file"
        done
        printf '}\n'
    } >"$out/torch.json"
}
jobs_done=""
job() { # NAME SHARE RESULT-FILE COMMAND...
    local name="$1" share="$2" result="$3" start=$SECONDS status
    shift 3
    step "$name" "$share" "$@"
    status="$(printf '%s' "$steps" | tail -1 | sed -E 's/.*"status": (-?[0-9]+).*/\1/')"
    jobs_done="$jobs_done${jobs_done:+,}
{\"name\": $(quote "$name"), \"status\": $status, \"seconds\": $((SECONDS - start)), \"result\": $(cat "$work/$result" 2>/dev/null || echo null)}"
    printf '[%s]\n' "$jobs_done" >"$out/jobs.json"
}
score() {
    whole "$work/score.json" "$altiplano" score --sample 24 --data digits --channels 8 --cells 1 \
        --proxies synflow,naswot,croze --quiet --json
}
corrupt() {
    whole "$work/corrupt.json" "$altiplano" corrupt --input digits --out "$work/corrupted" --kind main --quiet --json
}
search() {
    whole "$work/search.json" "$altiplano" search --method genas --data digits --preset quick --arms flatness,random --out "$work/search" \
        --quiet --json
}
# `timeout` runs programs, not functions.
export -f whole list bench selftest tests torch_peer score corrupt search
export out work kit altiplano

step "adapter and limits" 5 bash -c list
[ -s "$work/devices.json" ] && devices="$(cat "$work/devices.json")"
summary
smoke() { "$altiplano" bench --suite machine --samples 3 >/dev/null; }
export -f smoke
step "smoke dispatch" 10 bash -c smoke
step "selftest" 15 bash -c selftest
step "steps" 22 bash -c 'bench steps.json step'
step "populations" 14 bash -c 'bench populations.json population'
step "kernel and planner tests" 25 bash -c 'tests engine --show-output kernels:: planner::'
join_tests
step "golden tests" 20 bash -c 'tests authors --show-output'
join_tests
if timeout 30 python3 -c 'import torch' >/dev/null 2>&1; then
    device=cpu
    timeout 30 python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1 && device=cuda
    for mode in eager graph eager-tf32; do
        if [ "$device" = cuda ] || [ "$mode" = eager ]; then
            step "PyTorch, $device, $mode" 10 bash -c "torch_peer $mode $device"
            join_torch
        fi
    done
fi
step "kernels and ResNet-50" 14 bash -c 'bench kernels.json kernels,resnet50'
job "scoring" 8 score.json bash -c score
job "corruption" 8 corrupt.json bash -c corrupt
job "search" 40 search.json bash -c search
summary
rm -f "$out"/.*.altiplano-tmp
echo "results in $out" >&2
