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

/// Has a loop device notice that the file behind it has grown. Returns 0 or -errno.
int clinux_loop_grow(int descriptor);

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

/// Sets an extended attribute to that text. Returns 0 or -errno.
int clinux_attribute_set(const char *path, const char *name, const char *text);

/// Reads one into `text`, without a zero at its end. Returns its length or -errno.
int clinux_attribute_get(const char *path, const char *name, char *text, int capacity);

/// openat2(2) with RESOLVE_IN_ROOT: symbolic links and `..` stay below `root`, as after chroot(2). Always O_CLOEXEC.
/// Returns a descriptor or -errno.
int clinux_open_in_root(int root, const char *path, int flags, mode_t mode);

/// Turns simple quotas on, which cannot be undone: what is written from then on is counted for the subvolume that wrote
/// it first. Returns 0, -ENOTTY or -EINVAL where the kernel has none (before Linux 6.7), or -errno.
int clinux_btrfs_quota_enable(int descriptor);

/// Makes a quota group, or removes it. Returns 0, -EEXIST, -ENOENT, -EBUSY while something is counted in it, or -errno.
int clinux_btrfs_quota_group(int descriptor, uint64_t group, int exists);

/// Counts what is counted in `member` in `group` as well. Returns 0, -EEXIST or -errno.
int clinux_btrfs_quota_join(int descriptor, uint64_t member, uint64_t group);

/// Writes that would take more than `bytes` in the group fail with EDQUOT; 0 takes the limit away. Returns 0 or -errno.
int clinux_btrfs_quota_limit(int descriptor, uint64_t group, uint64_t bytes);

/// A piece of the disk that holds file contents: where it begins in the filesystem, and what it takes there.
typedef struct {
    uint64_t start;
    uint64_t bytes;
} clinux_extent;

/// The next key of a subvolume's tree to look at; begins as zeros.
typedef struct {
    uint64_t object;
    uint32_t type;
    int done;
    uint64_t offset;
} clinux_extent_cursor;

enum { clinux_extents_capacity = 4096 };

/// The next pieces that the subvolume refers to, in the order of its files, with repetitions; small contents that lie
/// in the tree itself have none. `extents` has room for `clinux_extents_capacity`. Returns how many, 0 at the end, or
/// -errno.
int clinux_btrfs_extents(int subvolume, clinux_extent_cursor *cursor, clinux_extent *extents, int capacity);
