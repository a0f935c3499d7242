#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Runs the decoders of hostile bytes under libFuzzer, with AddressSanitizer. The corpus is kept in .build-fuzz/corpus.
# Usage: scripts/fuzz.sh [SECONDS]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
find_swift
trap give_back EXIT

# What swiftc asks for by itself is a kind of coverage that libFuzzer has given up.
flags=()
for flag in -inline-8bit-counters=1 -pc-table=1 -trace-pc-guard=0 -trace-compares=1 -level=3; do
    flags+=(-Xswiftc -Xllvm -Xswiftc "-sanitizer-coverage$flag")
done
swift build --package-path Tests/Fuzz --scratch-path .build-fuzz --sanitize fuzzer --sanitize address "${flags[@]}" \
    --product fuzz
mkdir -p .build-fuzz/corpus
# Leaks are not looked for: the runtime keeps metadata for ever.
ASAN_OPTIONS=detect_leaks=0 .build-fuzz/debug/fuzz -max_total_time="${1:-300}" -max_len=8192 -timeout=10 \
    -artifact_prefix=.build-fuzz/ .build-fuzz/corpus Tests/Fuzz/Corpus
