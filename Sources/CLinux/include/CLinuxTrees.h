// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Writes the difference of two read-only btrfs subvolumes of one filesystem to `out`, without contents of files.
///
/// `parent` is the id of the older one. Blocks until everything is written. Returns 0 or -errno; -EPIPE if the reader
/// has gone.
int clinux_btrfs_send(int subvolume, uint64_t parent, int out);

/// Every path of an inode within its subvolume, one after the other, each ended by a zero byte.
///
/// Returns the bytes used in `paths`, -EOVERFLOW if they do not fit, or -errno.
int64_t clinux_btrfs_inode_paths(int subvolume, uint64_t inode, char *paths, size_t count);

/// What is known of one name; times are nanoseconds since 1970.
typedef struct {
    uint32_t mode, uid, gid, links;
    uint64_t inode, size, device, filesystem;
    int64_t modified, born;
} clinux_entry;

/// statx(2) of one name, or with an empty one of the directory itself; links are not followed. Returns 0 or -errno.
int clinux_inspect(int directory, const char *name, clinux_entry *entry);

/// openat2(2) that never leaves `root`, and follows no symbolic link and no magic one on the way.
///
/// With `same_mount` it does not cross into another mount either (-EXDEV). Always O_CLOEXEC. A descriptor or -errno.
int clinux_open_beneath(int root, const char *path, int flags, mode_t mode, int same_mount);

/// renameat2(2); flags are RENAME_NOREPLACE (1) or RENAME_EXCHANGE (2). Returns 0 or -errno.
int clinux_rename(int old_directory, const char *old_name, int new_directory, const char *new_name, unsigned flags);

/// Lets `target` share the blocks of `source` (FICLONE). Returns 0 or -errno.
int clinux_clone_file(int source, int target);

/// Whether two open files share all their blocks, by their extents alone: 1, 0, or -errno.
int clinux_same_extents(int a, int b);

/// O_PATH of open(2), which Swift does not see.
int clinux_path_only(void);

/// getxattr(2), listxattr(2) and setxattr(2) on what a descriptor names, also one opened with O_PATH.
/// They return bytes, or -errno.
int64_t clinux_entry_attribute(int descriptor, const char *name, void *value, size_t count);
int64_t clinux_entry_attributes(int descriptor, char *names, size_t count);
int clinux_set_entry_attribute(int descriptor, const char *name, const void *value, size_t count);

/// readlinkat(2) of the link that a descriptor opened with O_PATH names. Returns bytes, or -errno.
int64_t clinux_read_link(int descriptor, char *target, size_t count);
