// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// openat(2) with O_PATH | O_CLOEXEC: names a file without opening it, so that no driver hears of it.
/// `directory` may be AT_FDCWD. Returns a descriptor or -errno.
int clinux_open_path(int directory, const char *path, int flags);

/// copy_file_range(2) from and to the current offsets. Returns bytes, 0 at the end, or -errno.
int64_t clinux_copy_range(int from, int to, size_t count);

/// Changes the owner of the file behind a descriptor, also one of clinux_open_path. Returns 0 or -errno.
int clinux_change_owner(int descriptor, uint32_t user, uint32_t group);
/// Makes PATH, the shared memory of an SQLite database in WAL mode, a file that btrfs overwrites in place (NODATACOW).
///
/// Otherwise a store to its mapping needs new space, and on a full disk raises SIGBUS. Does nothing on other
/// filesystems, and to a file that is so already or in use. Returns 0 or -errno.
int clinux_prepare_wal_index(const char *path);

