// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    CLINUX_READABLE = 1,
    CLINUX_WRITABLE = 2,
    /// The other side is gone, or an error is pending; always reported.
    CLINUX_CLOSED = 4,
    /// Reported once for each change instead of as long as it is true.
    CLINUX_EDGE = 8,
};

typedef struct {
    uint64_t token;
    uint32_t events;
} clinux_event;

/// epoll_create1(EPOLL_CLOEXEC). Returns a descriptor or -errno.
int clinux_poller(void);
/// Adds a descriptor, or changes what is waited for. Returns 0 or -errno.
int clinux_watch(int poller, int descriptor, uint32_t events, uint64_t token);
int clinux_unwatch(int poller, int descriptor);
/// Waits for at most `microseconds` (-1: for ever). Returns how many events were written, 0 also after a signal, or
/// -errno.
int clinux_wait_events(int poller, clinux_event *events, int count, int64_t microseconds);

/// eventfd(2), non-blocking and close-on-exec. Returns a descriptor or -errno.
int clinux_wakeup(void);
/// Makes the next wait on the eventfd return.
int clinux_wake(int wakeup);
/// Takes the wake-ups back.
void clinux_wakeup_clear(int wakeup);

/// Blocks SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGPIPE and the like, and returns a non-blocking descriptor to read the
/// first
/// three from, or -errno.
int clinux_signals(void);
/// The next signal's number with its sender's pid (0: from outside this pid namespace), 0 if there is none, or -errno.
int clinux_next_signal(int signals, pid_t *sender);
/// Catches these signals from now on: each writes its number, one byte, into a pipe. Returns the pipe's end to read
/// from, which is blocking and the same for every call, or -errno.
int clinux_catch_signals(const int *numbers, int count);

/// Accepts a connection, non-blocking and close-on-exec. Returns a descriptor or -errno.
int clinux_accept(int listener);
/// A unix stream socket, non-blocking and close-on-exec. Returns a descriptor or -errno.
int clinux_unix_listen(const char *path, int backlog);
int clinux_unix_connect(const char *path);

/// What a descriptor received from an untrusted process is: 1 an anonymous pipe, 2 the master of a terminal,
/// 0 anything else.
int clinux_descriptor_kind(int descriptor);
/// A description of our own of an anonymous pipe, so that nobody else can make it blocking. Returns it or -errno.
int clinux_reopen_pipe(int descriptor, int for_writing);

/// Sets the soft limit on open files (0: to the hard limit). Returns the old soft limit or -errno.
int64_t clinux_limit_files(uint64_t soft);
/// Gives free memory back to the system.
void clinux_trim_memory(void);
/// Takes the program's own code and constants out of this process's page table; what is used again comes back from the
/// page cache, without the neighbours that the kernel maps ahead.
void clinux_release_code(void);
