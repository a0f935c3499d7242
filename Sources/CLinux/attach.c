// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxAttach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
    int mount_namespace;
    int mount;
    const char *directory;
    const char *name;
    int result;
} attaching;

static int open_directory(int from, const char *path) {
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int result = (int)syscall(SYS_openat2, from, path, &how, sizeof how);
    return result < 0 ? -errno : result;
}

static int attach(int directory, const attaching *a) {
    int place = open_directory(directory, a->name);
    if (place < 0) return place;
    int flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    int error = syscall(SYS_move_mount, a->mount, "", place, "", flags) < 0 ? -errno : 0;
    close(place);
    return error;
}

static int detach(int directory, const attaching *a) {
    if (fchdir(directory) < 0) return -errno;
    return umount2(a->name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

// Runs in a thread of its own, which ends right after. A mount namespace can be entered by a thread once it no longer
// shares its root and working directory with the others.
static void *inside(void *argument) {
    attaching *a = argument;
    if (unshare(CLONE_FS) < 0 || setns(a->mount_namespace, CLONE_NEWNS) < 0) {
        a->result = -errno;
        return NULL;
    }
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        a->result = -errno;
        return NULL;
    }
    int directory = open_directory(root, a->directory);
    close(root);
    if (directory < 0) {
        a->result = directory;
        return NULL;
    }
    a->result = a->mount >= 0 ? attach(directory, a) : detach(directory, a);
    close(directory);
    return NULL;
}

static int run(attaching *a) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, inside, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) return -error;
    pthread_join(thread, NULL);
    return a->result;
}

int clinux_attach_mount_in(int mount_namespace, int mount, const char *directory, const char *name) {
    attaching a = {mount_namespace, mount, directory, name, 0};
    return mount < 0 ? -EBADF : run(&a);
}

int clinux_detach_mount_in(int mount_namespace, const char *directory, const char *name) {
    attaching a = {mount_namespace, -1, directory, name, 0};
    return run(&a);
}
