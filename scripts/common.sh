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
    command -v swift >/dev/null 2>&1 ||
        die "cannot build: no Swift toolchain found in PATH, /opt/swift or ~/.local/share/swiftly.
Install Swift 6.2 or later from https://www.swift.org/install/linux/ and run this again
(with sudo: sudo env PATH=\"\$PATH\" $0)."
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1)
    if [ -z "$version" ] || [ "$(printf '%s\n6.2\n' "$version" | sort -V | head -n 1)" != 6.2 ]; then
        die "cannot build: Swift is ${version:-of an unknown version}, 6.2 or later is needed.
Install it from https://www.swift.org/install/linux/ and run this again."
    fi
}

# Eight hexadecimal digits made from a data directory's real path, FNV-1a folded to 32 bits: sprited derives every
# host-wide name (bridge, nft table, cgroup, run directory) from it. See Sources/SpriteDaemon/HostNames.swift.
host_tag() {
    local path byte hash=$((0xcbf29ce484222325))
    path=$(realpath -m "$1")
    while read -r byte; do
        hash=$(((hash ^ 0x$byte) * 0x100000001b3))
    done < <(printf '%s' "$path" | od -An -v -tx1 -w1 | tr -d ' ')
    printf '%08x\n' $(((hash ^ (hash >> 32)) & 0xffffffff))
}

# remove_host_traces TAG DATA_DIRECTORY: ends every process in the sprites of that data directory, and removes what
# sprited made for them on this host, the pool's subvolumes included. sprited itself must not run any more.
remove_host_traces() {
    local tag=$1 data_dir=$2 cgroup folder device
    for cgroup in /sys/fs/cgroup/sprited-"$tag" /sys/fs/cgroup/*/sprited-"$tag"; do
        [ -d "$cgroup" ] || continue
        if [ -f "$cgroup/cgroup.kill" ]; then
            echo 1 >"$cgroup/cgroup.kill"
        else
            find "$cgroup" -name cgroup.procs -exec cat {} + | while read -r process; do
                kill -KILL "$process" 2>/dev/null || true
            done
        fi
        for _ in $(seq 100); do
            [ -n "$(find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null)" ] || break
            sleep 0.1
        done
        find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    # Each is a process that watches and one that serves a mounted runtimes layer, in a group of their own.
    for process in /run/sprited/"$tag"/runtimes/*/process; do
        [ ! -f "$process" ] || kill -KILL -- "-$(cut -d' ' -f1 "$process")" 2>/dev/null || true
    done
    ip link delete "spr$tag" 2>/dev/null || true
    nft delete table inet "sprited_$tag" 2>/dev/null || true
    nft delete table bridge "sprited_$tag" 2>/dev/null || true
    # Mounts of the pool were private to sprited and to the sprites; with the last of them the loop device goes.
    for device in $(losetup --noheadings --output NAME --associated "$data_dir/pool.img" 2>/dev/null); do
        losetup --detach "$device" || true
    done
    rm -rf "/run/sprited/$tag" "/dev/shm/sprited-$tag"
    # The rest of it is shared by all daemons of the host.
    if [ -z "$(find /run/sprited -mindepth 1 ! -name network.lock 2>/dev/null)" ]; then rm -rf /run/sprited; fi
    # On btrfs the data directory holds subvolumes, some read-only; rm cannot remove those.
    if [ -d "$data_dir/pool" ] && [ "$(stat -f -c %T "$data_dir")" = btrfs ]; then
        find "$data_dir/pool" -depth -xdev -type d -inum 256 | while read -r folder; do
            btrfs property set -f -ts "$folder" ro false 2>/dev/null || true
            btrfs subvolume delete "$folder" >/dev/null || true
        done
    fi
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
