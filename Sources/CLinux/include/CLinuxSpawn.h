// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Where a child stopped before its program ran.
enum clinux_spawn_stage {
    CLINUX_STAGE_NONE = 0,
    CLINUX_STAGE_CLONE = 1,
    CLINUX_STAGE_NAMESPACE = 2,
    CLINUX_STAGE_TERMINAL = 3,
    CLINUX_STAGE_CREDENTIALS = 4,
    CLINUX_STAGE_DIRECTORY = 5,
    CLINUX_STAGE_DESCRIPTORS = 6,
    CLINUX_STAGE_EXEC = 7,
};

typedef struct {
    /// Paths to try in order, NULL-terminated, as execvp(3) does: the next one is tried after ENOENT, ENOTDIR and
    /// EACCES; EACCES is what is reported if nothing else worked and it occurred.
    const char *const *paths;
    const char *const *argv;
    const char *const *envp;
    /// Entered after the credentials are set; NULL to stay.
    const char *directory;
    /// descriptors[i] becomes descriptor i of the child. All must be >= descriptor_count or equal to i, and open
    /// with O_CLOEXEC; every other descriptor is closed.
    const int *descriptors;
    int descriptor_count;
    /// setsid(2).
    int new_session;
    /// setpgid(0, 0).
    int new_process_group;
    /// Make descriptor 0 the controlling terminal; needs new_session.
    int controlling_terminal;
    /// How many files the child may have open unless it raises the limit; 0 means as many as the parent.
    uint64_t soft_file_limit;
    /// setgroups, setgid, setuid before the directory is entered.
    int set_credentials;
    uint32_t uid, gid;
    const uint32_t *groups;
    int group_count;
    /// Descriptors of namespaces to enter with setns(2), in order.
    const int *namespaces;
    int namespace_count;
    /// SIGKILL when the parent's thread ends; for tools that must not outlive the daemon.
    int die_with_parent;
} clinux_spawn_options;

/// Spawns without copying the parent's memory (CLONE_VM | CLONE_VFORK), with default signal handlers and an empty mask.
///
/// Returns the pid and sets *pidfd, or -errno with *stage set. A child that failed is already reaped.
pid_t clinux_spawn(const clinux_spawn_options *options, int *pidfd, int *stage);

/// fork(2), for a process with one thread. Returns the pid, 0 in the child, or -errno.
pid_t clinux_fork(void);
/// Becomes another program with standard signal handlers and an empty mask; `environment` holds lines. Returns only if
/// that fails: -errno.
int clinux_execute(const char *path, const char *name, const char *environment);
/// SIGRTMIN + n, which the C library computes.
int clinux_realtime_signal(int n);

/// Waits for the child behind a pidfd. Returns the exit status and sets *signaled, or -errno.
int clinux_wait(int pidfd, int *signaled);
int clinux_pidfd_open(pid_t pid);
int clinux_pidfd_send_signal(int pidfd, int signal);
