# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# shellcheck shell=bash
# What the scripts share. Source it; it runs nothing.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

say() { printf '==> %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "cannot $1: it needs root; run 'sudo $0'"
}

# Puts the Swift toolchain in PATH. sudo resets PATH, so the usual places are searched as well.
find_swift() {
    local home folder version
    if ! command -v swift >/dev/null 2>&1; then
        home=$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)
        for folder in /opt/swift/usr/bin /usr/local/swift/usr/bin /usr/share/swift/usr/bin \
            "$home/.local/share/swiftly/bin" "$home/swift/usr/bin"; do
            if [ -x "$folder/swift" ]; then
                PATH=$folder:$PATH
                export PATH
                [ -n "${SWIFTLY_HOME_DIR:-}" ] || export SWIFTLY_HOME_DIR="$home/.local/share/swiftly"
                break
            fi
        done
    fi
    command -v swift >/dev/null 2>&1 || die "cannot build: no Swift toolchain found in PATH, /opt/swift or ~/.local/share/swiftly.
Install Swift 6.2 or later from https://www.swift.org/install/linux/ and run this again
(with sudo: sudo env PATH=\"\$PATH\" $0)."
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1)
    if [ -z "$version" ] || [ "$(printf '%s\n6.2\n' "$version" | sort -V | head -n 1)" != 6.2 ]; then
        die "cannot build: Swift is ${version:-of an unknown version}, 6.2 or later is needed.
Install it from https://www.swift.org/install/linux/ and run this again."
    fi
}

# The first eight hexadecimal digits of the SHA-256 of a data directory's real path: sprited derives every
# host-wide name (bridge, nft table, cgroup, run directory) from it.
host_tag() {
    printf '%s' "$(realpath -m "$1")" | sha256sum | cut -c1-8
}

# What sudo built belongs to whoever owns the working tree.
give_back() {
    local owner folder
    owner=$(stat -c %u "$ROOT")
    [ "$(id -u)" -eq 0 ] && [ "$owner" -ne 0 ] || return 0
    for folder in "$ROOT"/.build*; do
        [ -e "$folder" ] && chown -R --reference="$ROOT" "$folder"
    done
    return 0
}
