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

# SwiftPM names the sanitizers one by one, and of these swiftc takes the last: nothing would be instrumented for the
# fuzzer.
# The linker would drop the tables of counters, which nothing refers to by name.
swift build --package-path Tests/Fuzz --scratch-path .build-fuzz --sanitize fuzzer --sanitize address \
    -Xswiftc -sanitize=fuzzer,address --disable-dead-strip -Xlinker -z -Xlinker nostart-stop-gc --product fuzz
mkdir -p .build-fuzz/corpus
# Leaks are not looked for: the runtime keeps metadata for ever.
ASAN_OPTIONS=detect_leaks=0 .build-fuzz/debug/fuzz -max_total_time="${1:-300}" -max_len=8192 -timeout=10 \
    -artifact_prefix=.build-fuzz/ .build-fuzz/corpus Tests/Fuzz/Corpus
