// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxNamespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_to_be_killed(void *argument) {
    // Not CLONE_FILES: these are the child's own copies, a lock of the parent's among them. If the parent is killed
    // before it kills the child, nothing of the parent may live on in it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != *(const pid_t *)argument) _exit(0);
    syscall(SYS_close_range, 0U, ~0U, 0U);
    for (;;) pause();
    return 0;
}

static int write_map(pid_t pid, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    size_t count = strlen(text);
    ssize_t written = write(file, text, count);
    int error = written == (ssize_t)count ? 0 : (written < 0 ? -errno : -EIO);
    close(file);
    return error;
}

static int open_namespace(pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    return file < 0 ? -errno : file;
}

int clinux_make_namespaces(uint32_t host_first, uint32_t count, int *user, int *network) {
    const size_t stack_size = 16 << 10;
    char *stack =
        mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return -errno;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    // CLONE_VM: nothing of a large parent is copied; the child only waits, with every signal but SIGKILL blocked.
    int flags = CLONE_NEWUSER | (network ? CLONE_NEWNET : 0) | CLONE_VM | SIGCHLD;
    pid_t parent = getpid();
    pid_t pid = clone(wait_to_be_killed, stack + stack_size, flags, &parent);
    int error = pid < 0 ? -errno : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) {
        munmap(stack, stack_size);
        return error;
    }
    char map[64];
    snprintf(map, sizeof map, "0 %u %u\n", host_first, count);
    error = write_map(pid, "uid_map", map);
    if (!error) error = write_map(pid, "gid_map", map);
    int user_descriptor = -1, network_descriptor = -1;
    if (!error && (user_descriptor = open_namespace(pid, "user")) < 0) error = user_descriptor;
    if (!error && network && (network_descriptor = open_namespace(pid, "net")) < 0) error = network_descriptor;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    munmap(stack, stack_size);
    if (error) {
        if (user_descriptor >= 0) close(user_descriptor);
        if (network_descriptor >= 0) close(network_descriptor);
        return error;
    }
    *user = user_descriptor;
    if (network) *network = network_descriptor;
    return 0;
}
