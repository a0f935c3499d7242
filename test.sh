#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Installs what the tests need, builds, runs every tier and ends with one line: N passed, N failed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.sh"
cd "$ROOT"

usage() {
    cat <<'TEXT'
Usage: sudo ./test.sh [--only check|unit|host|daemon|conformance|sdk] [--keep]

  check        formatter, tidy and shell checks
  unit         Swift tests that need nothing but the toolchain
  host         Swift tests on the real thing: btrfs, crun, bridges
  daemon       black-box tests of a running sprited and of the sprite command
  conformance  the public API, through its official Python client
  sdk          the client libraries, installed from their artefacts: conformance/ and their examples

  --only TIER  run one tier (may be given again for another)
  --keep       keep data directories and logs of the tests, and say where
TEXT
}

# Swift test targets that need root and the host's features; all others are the unit tier.
host_targets='^Sprite(Storage|Image|Sandbox|Network|Sessions)Tests'

tiers='' keep=no
while [ $# -gt 0 ]; do
    case $1 in
    --only)
        case ${2:-} in
        check | unit | host | daemon | conformance | sdk) tiers+=" $2" && shift ;;
        *) usage >&2 && die "--only needs check, unit, host, daemon, conformance or sdk" ;;
        esac
        ;;
    --keep) keep=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && die "unknown option $1" ;;
    esac
    shift
done
tiers=${tiers:- check unit host daemon conformance sdk}
wants() { [[ " $tiers " == *" $1 "* ]]; }

need_root "run the tests: sandboxes, mounts and bridges are made"
scripts/install-deps.sh
find_swift

results=$ROOT/.build-results
rm -rf "$results"
mkdir -p "$results"
scratch=$(mktemp -d /var/tmp/sprite-tests-XXXXXX)
python=$ROOT/.build-venv/bin/python
export SPRITE_TEST_DIR=$scratch
[ "$keep" = no ] || export SPRITE_TEST_KEEP=$scratch
export SPRITED_BINARY=$ROOT/.build/debug/sprited SPRITE_BINARY=$ROOT/.build/debug/sprite
export SPRITE_ENV_BINARY=$ROOT/.build-static/release/sprite-env
# Where a test could be skipped for want of a feature of the host, it fails instead.
export SPRITE_REQUIRE=root,btrfs,crun,sandbox,network,image
export PYTHONDONTWRITEBYTECODE=1 SWIFT_BACKTRACE=enable=yes,color=no

# The bounds of a whole run on two cores; a full soak is 'make soak'.
if [ -n "${CI:-}" ]; then
    export SPRITE_CRASH_ROUNDS=${SPRITE_CRASH_ROUNDS:-20} SPRITE_STREAM_COUNT=${SPRITE_STREAM_COUNT:-2000}
fi

# record TIER NAME passed|failed [REASON]
record() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$results/steps.tsv"; }

# step TIER NAME COMMAND…: one command that counts as one test.
step() {
    local tier=$1 name=$2
    shift 2
    if "$@"; then record "$tier" "$name" passed; else record "$tier" "$name" failed "exit status $?"; fi
}

# suite TIER COMMAND…: a tier that leaves its results in $results/TIER.xml. One that ends badly without a failed test in
# them (a crash, a time-out) counts as one failure of its own.
suite() {
    local tier=$1 status=0
    shift
    "$@" || status=$?
    # Swift Testing writes beside the named file, which holds the results of XCTest: there are none.
    if [ -f "$results/$tier-swift-testing.xml" ]; then mv "$results/$tier-swift-testing.xml" "$results/$tier.xml"; fi
    if [ "$status" -ne 0 ] && ! grep -qE '<(failure|error)' "$results/$tier.xml" 2>/dev/null; then
        record "$tier" "runs to its end" failed "exit status $status"
    elif [ ! -s "$results/$tier.xml" ]; then
        record "$tier" "leaves results" failed "no $tier.xml"
    fi
}

# Ends and removes what the tests may have left, by the names that derive from their data directories.
clean_host() {
    local file folder
    for file in /proc/[0-9]*/cmdline; do
        case $({ tr '\0' ' ' <"$file"; } 2>/dev/null) in
        "$SPRITED_BINARY "*"$scratch"/*) kill -KILL "$(basename "$(dirname "$file")")" 2>/dev/null || true ;;
        esac
    done
    for folder in "$scratch"/*/ "$scratch"/*/*/; do
        if [ -e "$folder/registry.db" ]; then remove_host_traces "$(host_tag "$folder")" "${folder%/}"; fi
    done
}

finish() {
    local status=$?
    trap '' INT TERM
    clean_host
    if [ "$keep" = yes ]; then
        say "kept: $scratch and $results"
    else
        rm -rf --one-file-system "$scratch" 2>/dev/null || warn "cannot remove $scratch"
    fi
    give_back
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

summary() {
    python3 scripts/test_summary.py "$results"
}

if wants check; then
    say check
    step check "swift format" scripts/lint.sh
    step check "shellcheck" shellcheck -x -P scripts quickstart.sh test.sh scripts/*.sh .ci/run
    python3 scripts/tidy.py --results "$results/tidy.tsv" || true
    [ -s "$results/tidy.tsv" ] || record check tidy failed "it did not run"
fi

if wants unit || wants host || wants daemon || wants conformance || wants sdk; then
    say "building sprite-env"
    step build sprite-env scripts/build.sh guest
    say "building everything with its tests"
    step build "debug with tests" scripts/build.sh debug
    if grep -qP '^build\t[^\t]*\tfailed' "$results/steps.tsv"; then
        summary
        exit 1
    fi
    scripts/leftovers.py --before "$results/host-before.json" --scratch "$scratch"
fi

swift_tests() { # TIER SECONDS FILTER…
    local tier=$1 seconds=$2
    shift 2
    say "$tier"
    mkdir -p "$scratch/tmp"
    # Mounts that a test makes are in a namespace of the run, and gone with it.
    TMPDIR=$scratch/tmp timeout "$seconds" unshare --mount --propagation private \
        swift test --skip-build --xunit-output "$results/$tier.xml" "$@"
}
if wants unit; then suite unit swift_tests unit 600 --skip "$host_targets"; fi
if wants host; then suite host swift_tests host 1200 --filter "$host_targets"; fi

if wants daemon || wants conformance || wants sdk; then
    say "preparing the black-box tests"
    step daemon "python environment" scripts/venv.sh "$ROOT/.build-venv" tests/requirements.txt
    base=$scratch/base.tar
    step daemon "base image" env PYTHONPATH=tests "$python" -c \
        "from pathlib import Path; from support.base import base_tar; base_tar(Path('$scratch'))"
    if [ -f "$base" ]; then export SPRITE_TEST_BASE_TAR=$base; fi
fi
pytest() { # TIER SECONDS PATH [OPTION…]
    local tier=$1 seconds=$2
    shift 2
    say "$tier"
    (cd tests && SPRITE_RERUNS=$results/reruns timeout "$seconds" "$python" -m pytest -q -p no:cacheprovider \
        --reruns 2 --reruns-delay 1 --junitxml "$results/$tier.xml" "$@")
}
if wants daemon; then
    # Ten minutes of random work on 50 sprites, unhurried, beside the other tests.
    SPRITE_SOAK_SECONDS=${SPRITE_SOAK_SECONDS:-600} SPRITE_SOAK_SPRITES=${SPRITE_SOAK_SPRITES:-50} \
        SPRITE_SOAK_WORKERS=${SPRITE_SOAK_WORKERS:-2} SPRITE_SOAK_PAUSE=${SPRITE_SOAK_PAUSE:-0.2} \
        suite soak pytest soak 1900 daemon/test_soak.py --reruns 1 -s &
    # Two processes at once, each with whole files: these tests wait more than they work.
    suite daemon pytest daemon 2100 daemon --numprocesses 2 --dist loadfile --ignore daemon/test_soak.py
    wait
fi
if wants conformance; then suite conformance pytest conformance 600 conformance; fi
if wants sdk; then suite sdk pytest sdk 900 sdk; fi

# First what is there is counted, then finish() cleans up.
if [ -f "$results/host-before.json" ]; then
    step host "nothing is left on the host" \
        scripts/leftovers.py --after "$results/host-before.json" --scratch "$scratch"
fi
summary
