// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>
#include <sys/types.h>

/// What a loop device shows; `device` and `inode` identify the file behind it.
typedef struct {
    uint64_t device;
    uint64_t inode;
    int direct_io;
    int autoclear;
} clinux_loop_facts;

/// Fills in what the loop device behind `descriptor` shows. Returns 0, -ENXIO if it shows nothing, or -errno.
int clinux_loop_inspect(int descriptor, clinux_loop_facts *facts);

/// Shows the file behind `backing` as a loop device that vanishes with its last user.
///
/// Direct I/O is used if the file's filesystem takes it. Returns a descriptor of the device, which keeps it until it is
/// mounted, and sets *number; or -errno.
int clinux_loop_attach(int backing, int *number);

/// Writes out what is dirty in one btrfs subvolume, and nothing of any other; free when nothing is.
///
/// Asks for a snapshot of `subvolume` in `parent` under `existing`, a name that is taken: the kernel writes the
/// subvolume's data out before it finds that the name exists. No transaction is committed. Returns 0 or -errno.
int clinux_btrfs_flush_subvolume(int subvolume, int parent, const char *existing);

/// The 16 bytes that identify the btrfs filesystem of a descriptor. Returns 0 or -errno.
int clinux_btrfs_identity(int descriptor, uint8_t identity[16]);

/// The number the next inode of the folder's filesystem or subvolume gets; it is used up by asking. Or -errno.
int64_t clinux_next_inode(const char *folder);

/// 1 if an extended attribute of the file is exactly this text, otherwise 0.
int clinux_attribute_is(int file, const char *name, const char *text);

/// openat2(2) with RESOLVE_IN_ROOT: symbolic links and `..` stay below `root`, as after chroot(2). Always O_CLOEXEC.
/// Returns a descriptor or -errno.
int clinux_open_in_root(int root, const char *path, int flags, mode_t mode);
