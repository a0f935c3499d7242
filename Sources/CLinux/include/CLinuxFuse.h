// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Listens on a unix socket at `path`, which only this user may connect to; replaces what is there.
/// Returns a descriptor or -errno.
int clinux_root_listen(const char *path);

/// Takes one connection whose every send and receive ends after ten seconds. Returns a descriptor or -errno.
int clinux_root_accept(int socket);

/// Connects to a unix socket, but only if the process `peer` listens there. Returns a descriptor or -errno.
int clinux_root_connect(const char *path, pid_t peer);

/// Mounts the filesystem behind an already served /dev/fuse descriptor at `target`, read-only: the same superblock as
/// everywhere else it is mounted, also in other mount namespaces. Returns 0 or -errno.
int clinux_fuse_mount(int descriptor, const char *source, const char *target);

/// Asks the kernel to hand out again the requests that a server took and never answered (Linux 6.9).
/// Returns 0 or -errno.
int clinux_fuse_resend(int descriptor);

/// lgetxattr(2); returns the length of the value, at most `count`, or -errno.
int64_t clinux_read_attribute(const char *path, const char *name, void *value, size_t count);

/// llistxattr(2); returns the length of the list of names that each end with a zero byte, or -errno.
int64_t clinux_list_attributes(const char *path, char *names, size_t count);
