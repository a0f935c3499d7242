// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxFuse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static int unix_address(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
    strcpy(address->sun_path, path);
    return 0;
}

static void limit_time(int socket) {
    struct timeval limit = {.tv_sec = 10};
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

int clinux_root_listen(const char *path) {
    struct sockaddr_un address;
    int result = unix_address(&address, path);
    if (result < 0) return result;
    int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (number < 0) return -errno;
    unlink(path);
    // The folder is closed to others; the mode of the socket is the second lock.
    if (bind(number, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 ||
        listen(number, 8) < 0) {
        result = -errno;
        close(number);
        return result;
    }
    return number;
}

int clinux_root_accept(int socket) {
    int number;
    do {
        number = accept4(socket, NULL, NULL, SOCK_CLOEXEC);
    } while (number < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (number < 0) return -errno;
    limit_time(number);
    return number;
}

int clinux_root_connect(const char *path, pid_t peer) {
    struct sockaddr_un address;
    int result = unix_address(&address, path);
    if (result < 0) return result;
    int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (number < 0) return -errno;
    limit_time(number);
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (connect(number, (struct sockaddr *)&address, sizeof address) < 0 ||
        getsockopt(number, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) {
        result = -errno;
        close(number);
        return result;
    }
    if (credentials.pid != peer) {
        close(number);
        return -EPERM;
    }
    return number;
}

int clinux_fuse_mount(int descriptor, const char *source, const char *target) {
    char options[160];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
             descriptor);
    unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV;
    return mount(source, target, "fuse.juicefs", flags, options) < 0 ? -errno : 0;
}

int clinux_fuse_resend(int descriptor) {
    // struct fuse_out_header of a notification: its code stands where a reply has its error.
    struct {
        uint32_t length;
        int32_t code;
        uint64_t unique;
    } message = {.length = 16, .code = 7};
    return write(descriptor, &message, sizeof message) < 0 ? -errno : 0;
}

int64_t clinux_read_attribute(const char *path, const char *name, void *value, size_t count) {
    ssize_t result = lgetxattr(path, name, value, count);
    return result < 0 ? -errno : result;
}

int64_t clinux_list_attributes(const char *path, char *names, size_t count) {
    ssize_t result = llistxattr(path, names, count);
    return result < 0 ? -errno : result;
}
