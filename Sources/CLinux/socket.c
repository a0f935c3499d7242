// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxSocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int clinux_open_process(int process) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", process);
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? -errno : folder;
}

int clinux_open_network_of(int process_folder) {
    int file = openat(process_folder, "ns/net", O_RDONLY | O_CLOEXEC);
    return file < 0 ? -errno : file;
}

typedef struct {
    int network_namespace;
    int family;
    int result;
} opening;

static void *inside(void *argument) {
    opening *o = argument;
    if (setns(o->network_namespace, CLONE_NEWNET) < 0) {
        o->result = -errno;
        return NULL;
    }
    int socket_number = socket(o->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    o->result = socket_number < 0 ? -errno : socket_number;
    return NULL;
}

int clinux_socket_in(int network_namespace, bool ipv6) {
    opening o = {network_namespace, ipv6 ? AF_INET6 : AF_INET, 0};
    sigset_t all, old;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    // Small: it makes two system calls.
    pthread_attr_setstacksize(&attributes, 64 << 10);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, inside, &o);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    if (error) return -error;
    pthread_join(thread, NULL);
    if (o.result >= 0) {
        int on = 1;
        setsockopt(o.result, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return o.result;
}

int clinux_connect(int socket_number, const uint8_t *address, bool ipv6, uint16_t port) {
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } target;
    memset(&target, 0, sizeof target);
    if (ipv6) {
        target.six.sin6_family = AF_INET6;
        target.six.sin6_port = htons(port);
        memcpy(&target.six.sin6_addr, address, 16);
    } else {
        target.four.sin_family = AF_INET;
        target.four.sin_port = htons(port);
        memcpy(&target.four.sin_addr, address, 4);
    }
    socklen_t size = ipv6 ? sizeof target.six : sizeof target.four;
    if (connect(socket_number, &target.any, size) == 0) return 0;
    return errno == EINPROGRESS ? 1 : -errno;
}

int clinux_connect_wait(int socket_number, int milliseconds) {
    struct pollfd wanted = {.fd = socket_number, .events = POLLOUT};
    int count = poll(&wanted, 1, milliseconds);
    if (count < 0) return errno == EINTR ? 1 : -errno;
    if (count == 0) return 1;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(socket_number, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return -errno;
    return -error;
}
