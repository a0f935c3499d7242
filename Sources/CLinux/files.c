// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxFiles.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

int clinux_open_path(int directory, const char *path, int flags) {
    int result = openat(directory, path, flags | O_PATH | O_CLOEXEC);
    return result < 0 ? -errno : result;
}

int64_t clinux_copy_range(int from, int to, size_t count) {
    ssize_t result = copy_file_range(from, NULL, to, NULL, count, 0);
    return result < 0 ? -errno : result;
}

int clinux_change_owner(int descriptor, uint32_t user, uint32_t group) {
    return fchownat(descriptor, "", user, group, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int clinux_prepare_wal_index(const char *path) {
    // What SQLite locks for as long as the file is open, in os_unix.c: UNIX_SHM_DMS.
    const off_t open_lock = 128;
    for (int attempt = 0; attempt < 2; attempt++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) return -errno;
        struct statfs system;
        struct stat facts;
        int flags = 0, result = 0;
        if (fstatfs(fd, &system) < 0 || fstat(fd, &facts) < 0) {
            result = -errno;
        } else if (system.f_type != BTRFS_SUPER_MAGIC) {
            // An empty one is what SQLite would make itself.
        } else if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0) {
            result = -errno;
        } else if (!(flags & FS_NOCOW_FL) && facts.st_size > 0) {
            // Only an empty file can be changed; SQLite makes its content anew.
            struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = open_lock, .l_len = 1};
            if (attempt == 0 && fcntl(fd, F_SETLK, &lock) == 0 && unlink(path) == 0) {
                close(fd);
                continue;
            }
            result = -EBUSY;
        } else if (!(flags & FS_NOCOW_FL)) {
            flags |= FS_NOCOW_FL;
            if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) result = -errno;
        }
        close(fd);
        return result;
    }
    return -EBUSY;
}
