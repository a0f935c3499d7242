#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Measures: builds release, starts a sprited of its own, and prints a table of operations beside the raw ones.
# Usage: sudo scripts/bench.sh [--no-build] [--base-tar FILE] [--keep] [sprite-bench options]
#   such as --runs 50, --only create exec, --json; 'sprite-bench --help' lists them.
# Status 1 if a median is outside its bar.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

build=yes keep=no base_tar=${SPRITE_TEST_BASE_TAR:-} options=()
while [ $# -gt 0 ]; do
    case $1 in
    --no-build) build=no ;;
    --keep) keep=yes ;;
    --base-tar) base_tar=${2:?--base-tar needs a file} && shift ;;
    *) options+=("$1") ;;
    esac
    shift
done
need_root "measure: sandboxes and mounts are made"

if [ "$build" = yes ]; then
    scripts/build.sh release sprite-bench >&2
    scripts/build.sh guest >&2
fi
sprited=${SPRITED_BINARY:-$ROOT/.build/release/sprited}
guest=${SPRITE_ENV_BINARY:-$ROOT/.build-static/release/sprite-env}
bench=${SPRITE_BENCH_BINARY:-$ROOT/.build/release/sprite-bench}

scratch=$(mktemp -d /var/tmp/sprite-bench-XXXXXX)
data=$scratch/data
silent=$scratch/silent
mkdir "$data"
tag=$(host_tag "$data")
daemon='' daemons=()
# shellcheck disable=SC2317 # Called by the trap.
finish() {
    local status=$?
    trap '' INT TERM
    for daemon in ${daemons[@]+"${daemons[@]}"}; do
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    done
    remove_host_traces "$tag" "$data"
    if [ -e "$silent" ]; then remove_host_traces "$(host_tag "$silent")" "$silent"; fi
    if [ "$keep" = yes ] || [ "$status" -gt 1 ]; then say "kept: $scratch"; else rm -rf "$scratch"; fi
    give_back
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start_daemon DATA OUTPUT [OPTIONS]: a sprited with a base; sets $daemon and $line.
start_daemon() {
    local data=$1 output=$2
    shift 2
    if [ -n "$base_tar" ]; then
        "$sprited" base import --data-dir "$data" --name bench "$base_tar" >&2
    else
        "$sprited" base build --data-dir "$data" --name bench >&2
    fi
    mkfifo "$output"
    "$sprited" serve --data-dir "$data" --listen 127.0.0.1:0 --guest-binary "$guest" --log-level warning "$@" \
        >"$output" 2>"$scratch/log" &
    daemon=$!
    daemons+=("$daemon")
    exec 3<"$output"
    if ! read -r -t 60 -u 3 line; then
        cat "$scratch/log" >&2
        die "cannot measure: sprited did not start; see above"
    fi
}

# The rows about the journal compare with a daemon that records no output.
if [[ " ${options[*]-} " != *' --only '* || " ${options[*]-} " == *' journal '* ]]; then
    mkdir "$silent"
    echo '{"journal_output": "off"}' >"$scratch/silent.json"
    start_daemon "$silent" "$scratch/silent-output" --config "$scratch/silent.json"
    options+=(--silent-url "${line#listening on }" --silent-token-file "$silent/token")
fi
start_daemon "$data" "$scratch/output"

# A copy of the daemon's mounts, made before there is any sprite: the pool and the control groups as the daemon sees
# them, and what is mounted here vanishes with the benchmark.
status=0
nsenter --target "$daemon" --mount unshare --mount --propagation private "$bench" \
    --url "${line#listening on }" --token-file "$data/token" --daemon-pid "$daemon" --pool "$data/pool" \
    --run-directory "/run/sprited/$tag" --base bench ${options[@]+"${options[@]}"} || status=$?
if ! kill -0 "$daemon" 2>/dev/null; then
    tail -n 20 "$scratch/log" >&2
    die "sprited ended while it was measured; see above"
fi
exit "$status"
