// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxEvents.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIPEFS_NUMBER 0x50495045
#define DEVPTS_NUMBER 0x1cd1
#define EVENTS_AT_ONCE 64

int clinux_poller(void) {
    int result = epoll_create1(EPOLL_CLOEXEC);
    return result < 0 ? -errno : result;
}

int clinux_watch(int poller, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event wanted = {.data.u64 = token};
    if (events & CLINUX_READABLE) wanted.events |= EPOLLIN;
    if (events & CLINUX_WRITABLE) wanted.events |= EPOLLOUT;
    if (events & CLINUX_EDGE) wanted.events |= EPOLLET;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &wanted) == 0) return 0;
    if (errno != EEXIST) return -errno;
    return epoll_ctl(poller, EPOLL_CTL_MOD, descriptor, &wanted) < 0 ? -errno : 0;
}

int clinux_unwatch(int poller, int descriptor) {
    return epoll_ctl(poller, EPOLL_CTL_DEL, descriptor, NULL) < 0 ? -errno : 0;
}

int clinux_wait_events(int poller, clinux_event *events, int count, int64_t microseconds) {
    struct epoll_event found[EVENTS_AT_ONCE];
    if (count > EVENTS_AT_ONCE) count = EVENTS_AT_ONCE;
    struct timespec limit = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    int result = epoll_pwait2(poller, found, count, microseconds < 0 ? NULL : &limit, NULL);
    if (result < 0 && errno == ENOSYS) {
        // Before Linux 5.11.
        int64_t milliseconds = microseconds < 0 ? -1 : microseconds / 1000 + (microseconds % 1000 != 0);
        result = epoll_wait(poller, found, count, milliseconds > INT32_MAX ? INT32_MAX : (int)milliseconds);
    }
    if (result < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < result; i++) {
        events[i].token = found[i].data.u64;
        events[i].events = (found[i].events & EPOLLIN ? CLINUX_READABLE : 0)
            | (found[i].events & EPOLLOUT ? CLINUX_WRITABLE : 0)
            | (found[i].events & (EPOLLHUP | EPOLLERR) ? CLINUX_CLOSED : 0);
    }
    return result;
}

int clinux_wakeup(void) {
    int result = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return result < 0 ? -errno : result;
}

int clinux_wake(int wakeup) { return eventfd_write(wakeup, 1) < 0 ? -errno : 0; }

void clinux_wakeup_clear(int wakeup) {
    eventfd_t count;
    (void)eventfd_read(wakeup, &count);
}

int clinux_signals(void) {
    sigset_t blocked, read;
    sigfillset(&blocked);
    // A fault of our own must still end us instead of being taken up for ever.
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGTRAP);
    sigdelset(&blocked, SIGABRT);
    if (sigprocmask(SIG_SETMASK, &blocked, NULL) < 0) return -errno;
    sigemptyset(&read);
    sigaddset(&read, SIGCHLD);
    sigaddset(&read, SIGTERM);
    sigaddset(&read, SIGINT);
    int result = signalfd(-1, &read, SFD_CLOEXEC | SFD_NONBLOCK);
    return result < 0 ? -errno : result;
}

int clinux_next_signal(int signals, pid_t *sender) {
    struct signalfd_siginfo info;
    ssize_t count = read(signals, &info, sizeof info);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (count != sizeof info) return 0;
    *sender = (pid_t)info.ssi_pid;
    return (int)info.ssi_signo;
}

static int caught[2] = {-1, -1};

static void note_signal(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    // A full pipe holds more signals than anybody waits for.
    if (write(caught[1], &byte, 1) < 0) errno = saved;
    errno = saved;
}

int clinux_catch_signals(const int *numbers, int count) {
    if (caught[0] < 0) {
        if (pipe2(caught, O_CLOEXEC) < 0) return -errno;
        if (fcntl(caught[1], F_SETFL, O_NONBLOCK) < 0) return -errno;
    }
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    for (int i = 0; i < count; i++) {
        if (sigaction(numbers[i], &action, NULL) < 0) return -errno;
    }
    return caught[0];
}

int clinux_accept(int listener) {
    int result = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return result < 0 ? -errno : result;
}

static int unix_socket(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
    strcpy(address->sun_path, path);
    int result = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return result < 0 ? -errno : result;
}

int clinux_unix_listen(const char *path, int backlog) {
    struct sockaddr_un address;
    int result = unix_socket(path, &address);
    if (result < 0) return result;
    unlink(path);
    if (bind(result, (struct sockaddr *)&address, sizeof address) < 0 || listen(result, backlog) < 0) {
        int error = errno;
        close(result);
        return -error;
    }
    return result;
}

int clinux_unix_connect(const char *path) {
    struct sockaddr_un address;
    int result = unix_socket(path, &address);
    if (result < 0) return result;
    if (connect(result, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(result);
        return -error;
    }
    return result;
}

int clinux_descriptor_kind(int descriptor) {
    struct stat facts;
    struct statfs system;
    if (fstat(descriptor, &facts) < 0 || fstatfs(descriptor, &system) < 0) return 0;
    if (S_ISFIFO(facts.st_mode) && system.f_type == PIPEFS_NUMBER) return 1;
    // The master's inode is that of the ptmx node: in a devpts, or one in any file system with the number 5:2.
    if (S_ISCHR(facts.st_mode) && facts.st_rdev == makedev(5, 2)) return 2;
    return 0;
}

int clinux_reopen_pipe(int descriptor, int for_writing) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int result = open(path, (for_writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
    return result < 0 ? -errno : result;
}

int64_t clinux_limit_files(uint64_t soft) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    int64_t old = limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
    limit.rlim_cur = soft == 0 || soft > limit.rlim_max ? limit.rlim_max : soft;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : old;
}

void clinux_trim_memory(void) { malloc_trim(0); }

static int release_segments(struct dl_phdr_info *program, size_t size, void *unused) {
    (void)size;
    (void)unused;
    const uintptr_t page = 4096;
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD) continue;
        uintptr_t first = (program->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
        uintptr_t end = (program->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);
        if (end <= first) continue;
        // A file system with large folios otherwise maps 2 MiB for one instruction.
        (void)madvise((void *)first, end - first, MADV_NOHUGEPAGE);
        // What was ever written (relocations, globals) has no copy in the file.
        if (!(segment->p_flags & PF_W)) (void)madvise((void *)first, end - first, MADV_DONTNEED);
    }
    // The first is the program itself.
    return 1;
}

void clinux_release_code(void) { (void)dl_iterate_phdr(release_segments, NULL); }
