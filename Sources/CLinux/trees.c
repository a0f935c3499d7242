// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxTrees.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

int clinux_btrfs_send(int subvolume, uint64_t parent, int out) {
    uint64_t sources[1] = {parent};
    struct btrfs_ioctl_send_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.send_fd = out;
    arguments.clone_sources_count = 1;
    arguments.clone_sources = (void *)sources;
    arguments.parent_root = parent;
    arguments.flags = BTRFS_SEND_FLAG_NO_FILE_DATA;
    return ioctl(subvolume, BTRFS_IOC_SEND, &arguments) < 0 ? -errno : 0;
}

int64_t clinux_btrfs_inode_paths(int subvolume, uint64_t inode, char *paths, size_t count) {
    size_t room = 64 << 10;
    struct btrfs_data_container *found = malloc(room);
    if (!found) return -ENOMEM;
    struct btrfs_ioctl_ino_path_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.inum = inode;
    arguments.size = room;
    arguments.fspath = (uint64_t)(uintptr_t)found;
    int64_t result = 0;
    if (ioctl(subvolume, BTRFS_IOC_INO_PATHS, &arguments) < 0) {
        result = -errno;
    } else if (found->elem_missed > 0) {
        result = -EOVERFLOW;
    }
    for (uint32_t index = 0; result >= 0 && index < found->elem_cnt; index++) {
        // Offsets are relative to the first of them.
        const char *path = (const char *)found->val + found->val[index];
        size_t length = strlen(path) + 1;
        if ((size_t)result + length > count) {
            result = -EOVERFLOW;
        } else {
            memcpy(paths + result, path, length);
            result += (int64_t)length;
        }
    }
    free(found);
    return result;
}

int clinux_inspect(int directory, const char *name, clinux_entry *entry) {
    struct statx facts;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, &facts) < 0) return -errno;
    entry->mode = facts.stx_mode;
    entry->uid = facts.stx_uid;
    entry->gid = facts.stx_gid;
    entry->links = facts.stx_nlink;
    entry->inode = facts.stx_ino;
    entry->size = facts.stx_size;
    entry->device = makedev(facts.stx_rdev_major, facts.stx_rdev_minor);
    entry->filesystem = makedev(facts.stx_dev_major, facts.stx_dev_minor);
    entry->modified = (int64_t)facts.stx_mtime.tv_sec * 1000000000 + facts.stx_mtime.tv_nsec;
    entry->born =
        facts.stx_mask & STATX_BTIME ? (int64_t)facts.stx_btime.tv_sec * 1000000000 + facts.stx_btime.tv_nsec : 0;
    return 0;
}

int clinux_open_beneath(int root, const char *path, int flags, mode_t mode, int same_mount) {
    struct open_how how;
    memset(&how, 0, sizeof how);
    how.flags = (uint64_t)(flags | O_CLOEXEC);
    how.mode = flags & O_CREAT ? mode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    if (same_mount) how.resolve |= RESOLVE_NO_XDEV;
    int result;
    int attempts = 0;
    // EAGAIN: something was renamed meanwhile and the kernel could not be sure.
    do result = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    while (result < 0 && (errno == EINTR || (errno == EAGAIN && ++attempts < 64)));
    return result < 0 ? -errno : result;
}

int clinux_rename(int old_directory, const char *old_name, int new_directory, const char *new_name, unsigned flags) {
    return renameat2(old_directory, old_name, new_directory, new_name, flags) < 0 ? -errno : 0;
}

int clinux_clone_file(int source, int target) { return ioctl(target, FICLONE, source) < 0 ? -errno : 0; }

enum { EXTENTS = 256 };

int clinux_same_extents(int a, int b) {
    size_t size = sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent);
    struct fiemap *maps[2] = {calloc(1, size), calloc(1, size)};
    int result = maps[0] && maps[1] ? 1 : -ENOMEM;
    uint64_t start = 0;
    int last = 0;
    while (result == 1 && !last) {
        int files[2] = {a, b};
        for (int side = 0; side < 2 && result == 1; side++) {
            memset(maps[side], 0, size);
            maps[side]->fm_start = start;
            maps[side]->fm_length = ~0ULL - start;
            maps[side]->fm_extent_count = EXTENTS;
            if (ioctl(files[side], FS_IOC_FIEMAP, maps[side]) < 0) result = -errno;
        }
        if (result != 1) break;
        if (maps[0]->fm_mapped_extents != maps[1]->fm_mapped_extents) {
            result = 0;
            break;
        }
        last = maps[0]->fm_mapped_extents == 0;
        for (uint32_t index = 0; index < maps[0]->fm_mapped_extents && result == 1; index++) {
            const struct fiemap_extent *x = &maps[0]->fm_extents[index], *y = &maps[1]->fm_extents[index];
            // What is not on the disk, or lies inside the metadata, has no address that could be compared.
            uint32_t vague = FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_DATA_INLINE;
            if (x->fe_logical != y->fe_logical || x->fe_physical != y->fe_physical || x->fe_length != y->fe_length
                || ((x->fe_flags | y->fe_flags) & vague)) {
                result = 0;
            }
            start = x->fe_logical + x->fe_length;
            if (x->fe_flags & FIEMAP_EXTENT_LAST) last = 1;
        }
    }
    free(maps[0]);
    free(maps[1]);
    return result;
}

int clinux_path_only(void) { return O_PATH; }

// A descriptor opened with O_PATH has no fgetxattr(2); its link in /proc names the same file.
static void place(int descriptor, char path[32]) { snprintf(path, 32, "/proc/self/fd/%d", descriptor); }

int64_t clinux_entry_attribute(int descriptor, const char *name, void *value, size_t count) {
    char path[32];
    place(descriptor, path);
    ssize_t result = getxattr(path, name, value, count);
    return result < 0 ? -errno : result;
}

int64_t clinux_entry_attributes(int descriptor, char *names, size_t count) {
    char path[32];
    place(descriptor, path);
    ssize_t result = listxattr(path, names, count);
    return result < 0 ? -errno : result;
}

int clinux_set_entry_attribute(int descriptor, const char *name, const void *value, size_t count) {
    char path[32];
    place(descriptor, path);
    return setxattr(path, name, value, count, 0) < 0 ? -errno : 0;
}

int64_t clinux_read_link(int descriptor, char *target, size_t count) {
    ssize_t result = readlinkat(descriptor, "", target, count);
    return result < 0 ? -errno : result;
}
