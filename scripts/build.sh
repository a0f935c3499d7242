#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# The one place that knows how each program is built.
# Usage: scripts/build.sh debug | release | guest [DESTINATION]
#
# debug    everything with its tests, in .build; what test.sh uses
# release  sprited, sprite and sprite-bench in .build, with Swift's own libraries linked in, so that the installed
#          programs do not need the toolchain at run time; only the distribution's libbtrfsutil and libsqlite3 stay
#          dynamic. Always the same flags: another set would compile everything again.
# guest    sprite-env, fully static, since it runs inside any root file system. In .build-static, because its flags
#          differ from those of release.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
find_swift
# The package manager leaves a folder there each time.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'give_back; rm -rf -- "$TMPDIR"' EXIT

case ${1:-} in
debug)
    swift build --build-tests
    ;;
release)
    for product in sprited sprite ${2:+"$2"}; do
        swift build -c release --static-swift-stdlib --product "$product"
    done
    ;;
guest)
    swift build -c release --static-swift-stdlib -Xswiftc -static-executable --product sprite-env \
        --scratch-path .build-static
    ;;
*)
    die "unknown kind '${1:-}'; use debug, release or guest"
    ;;
esac
