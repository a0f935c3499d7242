// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxSpawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

struct child {
    const clinux_spawn_options *options;
    volatile int error;
    volatile int stage;
};

// The address space is the parent's, so only async-signal-safe calls, and raw system calls where the library would
// tell the parent's other threads (setuid and friends).
static void fail(struct child *c, int stage) {
    c->error = errno;
    c->stage = stage;
    _exit(127);
}

static int child_main(void *argument) {
    struct child *c = argument;
    const clinux_spawn_options *o = c->options;
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++) sigaction(s, &standard, NULL);
    if (o->die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) fail(c, CLINUX_STAGE_CREDENTIALS);
    for (int i = 0; i < o->namespace_count; i++)
        if (setns(o->namespaces[i], 0) < 0) fail(c, CLINUX_STAGE_NAMESPACE);
    if (o->new_session && setsid() < 0) fail(c, CLINUX_STAGE_TERMINAL);
    if (o->new_process_group && !o->new_session && setpgid(0, 0) < 0) fail(c, CLINUX_STAGE_TERMINAL);
    if (o->controlling_terminal && ioctl(o->descriptors[0], TIOCSCTTY, 0) < 0) fail(c, CLINUX_STAGE_TERMINAL);
    if (o->set_credentials) {
        if (syscall(SYS_setgroups, (size_t)o->group_count, o->groups) < 0) fail(c, CLINUX_STAGE_CREDENTIALS);
        if (syscall(SYS_setresgid, o->gid, o->gid, o->gid) < 0) fail(c, CLINUX_STAGE_CREDENTIALS);
        if (syscall(SYS_setresuid, o->uid, o->uid, o->uid) < 0) fail(c, CLINUX_STAGE_CREDENTIALS);
    }
    if (o->directory && chdir(o->directory) < 0) fail(c, CLINUX_STAGE_DIRECTORY);
    for (int i = 0; i < o->descriptor_count; i++) {
        int source = o->descriptors[i];
        if (source == i) {
            if (fcntl(i, F_SETFD, 0) < 0) fail(c, CLINUX_STAGE_DESCRIPTORS);
        } else if (dup2(source, i) < 0) {
            fail(c, CLINUX_STAGE_DESCRIPTORS);
        }
    }
    if (syscall(SYS_close_range, (unsigned)o->descriptor_count, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
        // Before Linux 5.11: every descriptor of ours is opened O_CLOEXEC anyway.
        if (errno != ENOSYS && errno != EINVAL) fail(c, CLINUX_STAGE_DESCRIPTORS);
    }
    if (o->soft_file_limit) {
        // Here and not in the parent: one that holds more files than its children may could not start them.
        struct rlimit limit;
        if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_cur > o->soft_file_limit) {
            limit.rlim_cur = o->soft_file_limit;
            syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
        }
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int denied = 0;
    errno = ENOENT;
    for (const char *const *path = o->paths; *path; path++) {
        execve(*path, (char *const *)o->argv, (char *const *)o->envp);
        if (errno == EACCES) denied = 1;
        else if (errno != ENOENT && errno != ENOTDIR) break;
    }
    if (denied && (errno == ENOENT || errno == ENOTDIR)) errno = EACCES;
    fail(c, CLINUX_STAGE_EXEC);
    return 127;
}

pid_t clinux_spawn(const clinux_spawn_options *options, int *pidfd, int *stage) {
    struct child c = {.options = options, .error = 0, .stage = CLINUX_STAGE_NONE};
    *stage = CLINUX_STAGE_NONE;
    const size_t stack_size = 64 << 10;
    char *stack =
        mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        *stage = CLINUX_STAGE_CLONE;
        return -errno;
    }
    // No handler of the parent may run in the child while it shares the parent's memory.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int descriptor = -1;
    pid_t pid = clone(
        child_main, stack + stack_size, SIGCHLD | CLONE_PIDFD | CLONE_VM | CLONE_VFORK, &c, &descriptor);
    int error = pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    munmap(stack, stack_size);
    if (error) {
        *stage = CLINUX_STAGE_CLONE;
        return -error;
    }
    if (c.error) {
        waitpid(pid, NULL, 0);
        close(descriptor);
        *stage = c.stage;
        return -c.error;
    }
    *pidfd = descriptor;
    return pid;
}

pid_t clinux_fork(void) {
    pid_t result = fork();
    return result < 0 ? -errno : result;
}

int clinux_execute(const char *path, const char *name, const char *environment) {
    char *copy = strdup(environment), *rest = copy, *line;
    char *variables[64];
    int count = 0;
    if (!copy) return -ENOMEM;
    while (count < 63 && (line = strsep(&rest, "\n"))) variables[count++] = line;
    variables[count] = NULL;
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++) sigaction(s, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    char *arguments[] = {(char *)name, NULL};
    execve(path, arguments, variables);
    int error = errno;
    free(copy);
    return -error;
}

int clinux_realtime_signal(int n) { return SIGRTMIN + n; }

int clinux_wait(int pidfd, int *signaled) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result;
    do result = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
    while (result < 0 && errno == EINTR);
    if (result < 0) return -errno;
    *signaled = info.si_code != CLD_EXITED;
    return info.si_status;
}

int clinux_pidfd_open(pid_t pid) {
    int result = (int)syscall(SYS_pidfd_open, pid, 0U);
    return result < 0 ? -errno : result;
}

int clinux_pidfd_send_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0U) < 0 ? -errno : 0;
}
