// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxMount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x00000004
#endif

static int mounts_are_private;

int clinux_private_mounts(void) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
    mounts_are_private = 1;
    return 0;
}

int clinux_has_private_mounts(void) { return mounts_are_private; }

int clinux_clone_mount(const char *path, int recursive) {
    unsigned flags = OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0);
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, flags);
    return tree < 0 ? -errno : tree;
}

int clinux_idmapped_clone(const char *path, int user_namespace) {
    int tree = clinux_clone_mount(path, 0);
    if (tree < 0) return tree;
    struct mount_attr attributes = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY, .userns_fd = (uint64_t)user_namespace};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) {
        int error = errno;
        close(tree);
        return -error;
    }
    return tree;
}

int clinux_attach_mount(int descriptor, const char *path) {
    return syscall(SYS_move_mount, descriptor, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    return mount(source, target, type, flags, data) < 0 ? -errno : 0;
}

int clinux_erofs_mount(const char *image, const char *target, const char *const *devices, int count) {
    int context = (int)syscall(SYS_fsopen, "erofs", FSOPEN_CLOEXEC);
    if (context < 0) return -errno;
    int tree = -1;
    int result = -1;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", image, 0) < 0) goto end;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) goto end;
    for (int index = 0; index < count; index++)
        if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "device", devices[index], 0) < 0) goto end;
    if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) goto end;
    tree = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (tree < 0) goto end;
    result = (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
end:
    if (result < 0) result = -errno;
    if (tree >= 0) close(tree);
    close(context);
    return result;
}

int clinux_detach_mount(const char *path) {
    return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

int clinux_exchange(const char *a, const char *b) {
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) < 0 ? -errno : 0;
}

int64_t clinux_filesystem_type(const char *path) {
    struct statfs facts;
    return statfs(path, &facts) < 0 ? -errno : (int64_t)facts.f_type;
}
