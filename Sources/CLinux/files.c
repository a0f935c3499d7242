// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxFiles.h"
#include <errno.h>
#include <fcntl.h>
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
