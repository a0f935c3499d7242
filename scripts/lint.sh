#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# What 'swift format' finds, the first lines of it; 'make fmt' mends most.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
find_swift

found=$(mktemp)
trap 'rm -f "$found"' EXIT
if swift format lint --strict --recursive Sources Tests sdks/swift Package.swift >"$found" 2>&1; then
    exit 0
fi
head -n 40 "$found"
die "$(wc -l <"$found") lines are not as the formatter wants them; 'make fmt' mends most"
