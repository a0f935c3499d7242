#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# The file system of a sprite under fio, a POSIX suite and all of stress-ng's classes for files, beside bare btrfs. A
# run of all tests has a minute of it. Builds first; needs root. SPRITE_FS_SECONDS for each class (10).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
need_root "check the file system: a pool is mounted"
export SPRITE_FS_SECONDS=${SPRITE_FS_SECONDS:-10}
stressors="access chdir chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl fiemap filename flock
    fpunch fsize getdent hdd inotify iomix lease link locka lockf lockofd metamix mmap open rename seek symlink
    sync-file utime xattr"
export SPRITE_FS_STRESSORS=${SPRITE_FS_STRESSORS:-$stressors}
scripts/build.sh debug
scripts/build.sh guest
scripts/venv.sh "$ROOT/.build-venv" tests/requirements.txt
export SPRITED_BINARY=$ROOT/.build/debug/sprited SPRITE_BINARY=$ROOT/.build/debug/sprite
export SPRITE_ENV_BINARY=$ROOT/.build-static/release/sprite-env
cd tests
exec "$ROOT/.build-venv/bin/python" -m pytest -s -p no:cacheprovider daemon/test_filesystem_checks.py
