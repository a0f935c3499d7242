// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxDescriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

ssize_t clinux_send(int socket, const void *bytes, size_t count, const int *descriptors, int descriptor_count) {
    if (descriptor_count < 0 || descriptor_count > CLINUX_DESCRIPTORS_MAX) return -EINVAL;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * CLINUX_DESCRIPTORS_MAX)];
    } control;
    if (descriptor_count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)descriptor_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)descriptor_count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * (size_t)descriptor_count);
    }
    ssize_t result;
    do result = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

ssize_t clinux_receive(int socket, void *bytes, size_t count, int *descriptors, int *descriptor_count) {
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * CLINUX_RECEIVED_MAX)];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    *descriptor_count = 0;
    ssize_t result;
    do result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (result < 0 && errno == EINTR);
    if (result < 0) return -errno;
    int found = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
            if (found < CLINUX_RECEIVED_MAX) descriptors[found++] = descriptor;
            else close(descriptor);
        }
    }
    *descriptor_count = found;
    return result;
}

static void interrupt(int number) { (void)number; }

/// Starts or, with 0, stops sending the calling thread a signal that ends what it waits for.
static int set_impatience(long milliseconds) {
    static __thread timer_t timer;
    static __thread int has_timer;
    int number = SIGRTMIN + 4;
    if (!has_timer) {
        struct sigaction action = {.sa_handler = interrupt};
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = number};
        event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
        sigset_t signals;
        sigemptyset(&action.sa_mask);
        sigemptyset(&signals);
        sigaddset(&signals, number);
        if (sigaction(number, &action, NULL) < 0 || timer_create(CLOCK_MONOTONIC, &event, &timer) < 0) return -errno;
        has_timer = 1;
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    }
    // Again and again: the first may come before there is a wait to end.
    struct timespec pause = {.tv_nsec = milliseconds * 1000000};
    struct itimerspec times = {.it_value = pause, .it_interval = pause};
    return timer_settime(timer, 0, &times, NULL) < 0 ? -errno : 0;
}

ssize_t clinux_splice_terminal(int from, int to, size_t count) {
    int error = set_impatience(50);
    if (error < 0) return error;
    ssize_t result = splice(from, NULL, to, NULL, count, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (result < 0) result = -errno;
    set_impatience(0);
    return result;
}

ssize_t clinux_write_terminal(int descriptor, const void *bytes, size_t count) {
    int error = set_impatience(50);
    if (error < 0) return error;
    ssize_t result = write(descriptor, bytes, count);
    if (result < 0) result = -errno;
    set_impatience(0);
    return result;
}

ssize_t clinux_splice(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t count) {
    ssize_t result;
    do
        result = splice(
            from, (loff_t *)from_offset, to, (loff_t *)to_offset, count, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

int clinux_pipe(int ends[2], int capacity) {
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    // A smaller pipe than asked for is slower, not wrong.
    if (capacity > 0) (void)fcntl(ends[1], F_SETPIPE_SZ, capacity);
    return 0;
}

int clinux_punch_hole(int descriptor, int64_t offset, int64_t count) {
    return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, count) < 0 ? -errno : 0;
}

int clinux_open_terminal(int *master, int *slave, uint16_t rows, uint16_t columns) {
    int m = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (m < 0) return -errno;
    int unlock = 0;
    if (ioctl(m, TIOCSPTLCK, &unlock) < 0) goto failed;
    int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s < 0) goto failed;
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    ioctl(m, TIOCSWINSZ, &size);
    *master = m;
    *slave = s;
    return 0;
failed:;
    int error = errno;
    close(m);
    return -error;
}

int clinux_set_terminal_size(int descriptor, uint16_t rows, uint16_t columns) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(descriptor, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

pid_t clinux_foreground_group(int master) {
    pid_t group = 0;
    return ioctl(master, TIOCGPGRP, &group) < 0 ? -errno : group;
}

int clinux_memory_file(const char *name) {
    int result = memfd_create(name, MFD_CLOEXEC);
    return result < 0 ? -errno : result;
}

int clinux_set_nonblocking(int descriptor, int nonblocking) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0) return -errno;
    int wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return wanted == flags || fcntl(descriptor, F_SETFL, wanted) == 0 ? 0 : -errno;
}

int clinux_readable_bytes(int descriptor) {
    int count = 0;
    return ioctl(descriptor, FIONREAD, &count) < 0 ? -errno : count;
}
