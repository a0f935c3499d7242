// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxSocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
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
    int type;
    int protocol;
    int result;
} opening;

static void *inside(void *argument) {
    opening *o = argument;
    if (setns(o->network_namespace, CLONE_NEWNET) < 0) {
        o->result = -errno;
        return NULL;
    }
    int socket_number = socket(o->family, o->type | SOCK_CLOEXEC, o->protocol);
    o->result = socket_number < 0 ? -errno : socket_number;
    return NULL;
}

static int open_in(opening o) {
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
    return o.result;
}

int clinux_socket_in(int network_namespace, bool ipv6) {
    opening o = {network_namespace, ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, 0};
    int socket_number = open_in(o);
    if (socket_number >= 0) {
        int on = 1;
        setsockopt(socket_number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return socket_number;
}

static int ask_listening(int socket_number, int family) {
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 request;
    } message;
    memset(&message, 0, sizeof message);
    message.head.nlmsg_len = sizeof message;
    message.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    message.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.request.sdiag_family = family;
    message.request.sdiag_protocol = IPPROTO_TCP;
    message.request.idiag_states = 1 << TCP_LISTEN;
    ssize_t sent = send(socket_number, &message, sizeof message, 0);
    return sent < 0 ? -errno : 0;
}

// The answer is the kernel's own; lengths are checked all the same.
static int read_listening(int socket_number, clinux_listening_socket *found, int count, int have) {
    static _Thread_local char buffer[32 << 10] __attribute__((aligned(8)));
    for (;;) {
        ssize_t size = recv(socket_number, buffer, sizeof buffer, 0);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return -errno;
        for (struct nlmsghdr *head = (struct nlmsghdr *)buffer; NLMSG_OK(head, size); head = NLMSG_NEXT(head, size)) {
            if (head->nlmsg_type == NLMSG_DONE) return have;
            if (head->nlmsg_type == NLMSG_ERROR) {
                if (head->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr))) return -EPROTO;
                int error = ((struct nlmsgerr *)NLMSG_DATA(head))->error;
                return error ? error : -EPROTO;
            }
            if (head->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)) || have >= count) continue;
            const struct inet_diag_msg *diag = NLMSG_DATA(head);
            clinux_listening_socket *one = &found[have++];
            memset(one, 0, sizeof *one);
            one->ipv6 = diag->idiag_family == AF_INET6;
            memcpy(one->address, diag->id.idiag_src, one->ipv6 ? 16 : 4);
            one->port = ntohs(diag->id.idiag_sport);
            one->inode = diag->idiag_inode;
        }
    }
}

int clinux_listening_in(int network_namespace, clinux_listening_socket *found, int count) {
    opening o = {network_namespace, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, 0};
    int socket_number = open_in(o);
    if (socket_number < 0) return socket_number;
    // The kernel answers at once; this is only so that a fault of ours could not hang.
    struct timeval limit = {.tv_sec = 2};
    setsockopt(socket_number, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int have = 0;
    const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2 && have >= 0; i++) {
        int error = ask_listening(socket_number, families[i]);
        have = error ? error : read_listening(socket_number, found, count, have);
    }
    close(socket_number);
    return have;
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
