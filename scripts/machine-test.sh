#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Tests what only a whole machine can show, in a virtual one: a fresh Debian with its own kernel, pure cgroup v2 and
# systemd; installation by quickstart.sh, orderly reboot, and the power cut at any moment.
# Usage: sudo scripts/machine-test.sh [--programs DIR] [--base-tar FILE] [--cuts N] [--keep DIR]
#   --programs DIR    sprited, sprite and sprite-env to test     (default: built, release)
#   --base-tar FILE   a root file system for the sprites         (default: built with mmdebstrap)
#   --cuts N          power cuts                                 (default 5)
#   --keep DIR        make the machine in DIR, and leave it there; its root file system is used again
# Without hardware virtualisation the machine is emulated, which takes about ten times as long.
# Ends with "N passed, N failed".
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

programs='' base_tar=${SPRITE_TEST_BASE_TAR:-} cuts=5 keep=''
while [ $# -gt 0 ]; do
    case $1 in
    --programs | --base-tar | --cuts | --keep) [ $# -gt 1 ] || die "$1 needs a value" ;;
    esac
    case $1 in
    --programs) programs=$(realpath "$2") && shift ;;
    --base-tar) base_tar=$(realpath "$2") && shift ;;
    --cuts) cuts=$2 && shift ;;
    --keep) keep=$(realpath -m "$2") && shift ;;
    *) die "unknown option $1" ;;
    esac
    shift
done
need_root "make the file system of a machine"
export DEBIAN_FRONTEND=noninteractive
for package in mmdebstrap qemu-system-x86 python3 e2fsprogs; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
        apt-get -q -y install --no-install-recommends "$package" >/dev/null
done

work=${keep:-$(mktemp -d /var/tmp/sprite-machine-XXXXXX)}
mkdir -p "$work"
finish() {
    mountpoint -q "$work/mnt" && umount "$work/mnt"
    [ -n "$keep" ] || rm -rf "$work"
    give_back
}
trap finish EXIT

if [ -z "$programs" ]; then
    scripts/build.sh release >&2
    scripts/build.sh guest >&2
    programs=$work/programs
    mkdir -p "$programs"
    install -s .build/release/sprited .build/release/sprite .build-static/release/sprite-env "$programs"
fi

# The same sources as this host: a machine of the same release.
if [ ! -f "$work/root.tar" ]; then
    say "making the machine's root file system"
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    packages=$(sed -n '/^run_packages=(/,/)/p' scripts/install-deps.sh | tr -d '()\n' | sed 's/^run_packages=//')
    grep -rlZ --include='*.list' --include='*.sources' "$suite" /etc/apt | xargs -0 cat |
        mmdebstrap --mode=root --variant=minbase --format=tar --dpkgopt=force-unsafe-io \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --include="systemd-sysv,dbus,udev,linux-image-cloud-amd64,python3,$(echo "$packages" | tr -s ' ' ',')" \
            "$suite" "$work/root.tar.part" - >"$work/mmdebstrap.log" 2>&1 ||
        { tail -n 20 "$work/mmdebstrap.log" >&2 && die "cannot make the root file system, see above"; }
    mv "$work/root.tar.part" "$work/root.tar"
fi
if [ -z "$base_tar" ]; then
    say "making a base for the sprites"
    base_tar=$(cd tests && python3 -c 'import pathlib, sys
from support.base import base_tar
print(base_tar(pathlib.Path(sys.argv[1])))' "$work")
fi

say "installing the machine"
rm -f "$work/disk.img"
truncate -s 16G "$work/disk.img"
mkfs.ext4 -q -F "$work/disk.img"
mkdir -p "$work/mnt"
mount -o loop "$work/disk.img" "$work/mnt"
tar -C "$work/mnt" --xattrs --numeric-owner -xpf "$work/root.tar"
mkdir -p "$work/mnt/opt/sprite-env" "$work/mnt/opt/programs"
tar -c quickstart.sh scripts packaging README.md | tar -C "$work/mnt/opt/sprite-env" -x
cp "$programs"/sprite* "$work/mnt/opt/programs/"
cp "$base_tar" "$work/mnt/opt/base.tar"
cp tests/machine/inside.py "$work/mnt/opt/inside.py"
cat >"$work/mnt/etc/systemd/system/machine-test.service" <<'UNIT'
[Unit]
Description=What the test does in this machine
After=multi-user.target sprited.service
[Service]
Type=exec
ExecStart=/usr/bin/python3 /opt/inside.py
StandardOutput=journal+console
[Install]
WantedBy=graphical.target multi-user.target
UNIT
ln -s ../machine-test.service "$work/mnt/etc/systemd/system/multi-user.target.wants/machine-test.service"
# Looks for volumes of LVM, of which there are none, and may never end in an emulated machine.
ln -sf /dev/null "$work/mnt/etc/systemd/system/e2scrub_reap.service"
printf '/dev/vda / ext4 defaults 0 1\n' >"$work/mnt/etc/fstab"
echo machine >"$work/mnt/etc/hostname"
cp "$work"/mnt/boot/vmlinuz-* "$work/kernel"
cp "$work"/mnt/boot/initrd.img-* "$work/initrd"
umount "$work/mnt"

python3 tests/machine/run.py --directory "$work" --cuts "$cuts"
