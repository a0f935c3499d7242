// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/// Gives this process a mount namespace of its own, from which nothing spreads. Call before any thread is started.
/// Returns 0 or -errno.
int clinux_private_mounts(void);
/// Whether this process did that; /proc/1 cannot always be looked at for comparison, not even by root.
int clinux_has_private_mounts(void);

/// A detached, read-only copy of the mount at `path` whose owners are shown through `user_namespace`.
/// Returns a mount descriptor or -errno.
int clinux_idmapped_clone(const char *path, int user_namespace);

/// A detached copy of the mount at `path` (open_tree). Returns a mount descriptor or -errno.
int clinux_clone_mount(const char *path, int recursive);

/// Attaches a detached mount at `path` (move_mount). Returns 0 or -errno.
int clinux_attach_mount(int mount, const char *path);

/// mount(2); Returns 0 or -errno.
int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);

/// Mounts the EROFS image in a file, read-only, with the files that its table of devices means, in their order.
/// Returns 0 or -errno.
int clinux_erofs_mount(const char *image, const char *target, const char *const *devices, int count);

/// umount2(2) with MNT_DETACH | UMOUNT_NOFOLLOW. Returns 0 or -errno.
int clinux_detach_mount(const char *path);

/// renameat2(RENAME_EXCHANGE). Returns 0 or -errno.
int clinux_exchange(const char *a, const char *b);

/// The filesystem type number of statfs(2), or -errno.
int64_t clinux_filesystem_type(const char *path);
