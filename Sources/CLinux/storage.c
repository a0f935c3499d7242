// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxStorage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/loop.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

int clinux_loop_inspect(int descriptor, clinux_loop_facts *facts) {
    struct loop_info64 info;
    memset(&info, 0, sizeof info);
    if (ioctl(descriptor, LOOP_GET_STATUS64, &info) < 0) return -errno;
    facts->device = info.lo_device;
    facts->inode = info.lo_inode;
    facts->direct_io = (info.lo_flags & LO_FLAGS_DIRECT_IO) != 0;
    facts->autoclear = (info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0;
    return 0;
}

int clinux_loop_attach(int backing, int *number) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -errno;
    int result = -EBUSY;
    // Others attach devices too: one that was free may be taken the moment after.
    for (int attempt = 0; attempt < 64 && result == -EBUSY; attempt++) {
        int index = ioctl(control, LOOP_CTL_GET_FREE);
        if (index < 0) {
            result = -errno;
            break;
        }
        char path[32];
        snprintf(path, sizeof path, "/dev/loop%d", index);
        int device = open(path, O_RDWR | O_CLOEXEC);
        if (device < 0) {
            result = -errno;
            break;
        }
        struct loop_config config;
        memset(&config, 0, sizeof config);
        config.fd = (uint32_t)backing;
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
        result = ioctl(device, LOOP_CONFIGURE, &config) < 0 ? -errno : device;
        if (result == -EINVAL) {
            config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
            result = ioctl(device, LOOP_CONFIGURE, &config) < 0 ? -errno : device;
        }
        if (result < 0) close(device);
        *number = index;
    }
    close(control);
    return result;
}

int clinux_loop_grow(int descriptor) { return ioctl(descriptor, LOOP_SET_CAPACITY, 0) < 0 ? -errno : 0; }

int clinux_btrfs_flush_subvolume(int subvolume, int parent, const char *existing) {
    struct btrfs_ioctl_vol_args_v2 arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.fd = subvolume;
    arguments.flags = BTRFS_SUBVOL_RDONLY;
    if (strlen(existing) >= sizeof arguments.name) return -ENAMETOOLONG;
    strcpy(arguments.name, existing);
    if (ioctl(parent, BTRFS_IOC_SNAP_CREATE_V2, &arguments) == 0) return -EPROTO;
    return errno == EEXIST ? 0 : -errno;
}

int clinux_btrfs_identity(int descriptor, uint8_t identity[16]) {
    struct btrfs_ioctl_fs_info_args information;
    memset(&information, 0, sizeof information);
    if (ioctl(descriptor, BTRFS_IOC_FS_INFO, &information) < 0) return -errno;
    memcpy(identity, information.fsid, 16);
    return 0;
}

int64_t clinux_next_inode(const char *folder) {
    int file = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) return -errno;
    struct stat facts;
    int64_t result = fstat(file, &facts) < 0 ? -errno : (int64_t)facts.st_ino;
    close(file);
    return result;
}

int clinux_attribute_is(int file, const char *name, const char *text) {
    char value[64];
    ssize_t count = fgetxattr(file, name, value, sizeof value);
    return count >= 0 && (size_t)count == strlen(text) && memcmp(value, text, (size_t)count) == 0;
}

int clinux_attribute_set(const char *path, const char *name, const char *text) {
    return setxattr(path, name, text, strlen(text), 0) < 0 ? -errno : 0;
}

int clinux_attribute_get(const char *path, const char *name, char *text, int capacity) {
    ssize_t count = getxattr(path, name, text, (size_t)capacity);
    return count < 0 ? -errno : (int)count;
}

int clinux_open_in_root(int root, const char *path, int flags, mode_t mode) {
    struct open_how how;
    memset(&how, 0, sizeof how);
    how.flags = (uint64_t)(flags | O_CLOEXEC);
    how.mode = flags & O_CREAT ? mode : 0;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    int result;
    int attempts = 0;
    // EAGAIN: something was renamed meanwhile and the kernel could not be sure.
    do result = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    while (result < 0 && (errno == EINTR || (errno == EAGAIN && ++attempts < 64)));
    return result < 0 ? -errno : result;
}
