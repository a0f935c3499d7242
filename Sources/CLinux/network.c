// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxNetwork.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// One request to the kernel, built in place.
typedef struct {
    union {
        struct nlmsghdr header;
        char bytes[1024];
    };
} request;

static void begin(request *r, uint16_t type, uint16_t flags) {
    memset(r, 0, sizeof *r);
    r->header.nlmsg_len = NLMSG_LENGTH(0);
    r->header.nlmsg_type = type;
    r->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

// The requests below are far smaller than the buffer; their only variable parts are interface names.
static void *append(request *r, const void *bytes, size_t count) {
    void *place = r->bytes + r->header.nlmsg_len;
    if (bytes) memcpy(place, bytes, count);
    r->header.nlmsg_len += NLMSG_ALIGN(count);
    return place;
}

static struct rtattr *attribute(request *r, uint16_t type, const void *bytes, size_t count) {
    struct rtattr head = {.rta_len = (uint16_t)RTA_LENGTH(count), .rta_type = type};
    struct rtattr *place = append(r, &head, sizeof head);
    if (count) append(r, bytes, count);
    return place;
}

static void end_nested(request *r, struct rtattr *outer) {
    outer->rta_len = (uint16_t)(r->bytes + r->header.nlmsg_len - (char *)outer);
}

static void link_head(request *r, uint8_t family, int index, unsigned flags) {
    struct ifinfomsg info = {.ifi_family = family, .ifi_index = index, .ifi_flags = flags, .ifi_change = flags};
    append(r, &info, sizeof info);
}

static int talk(int socket, request *r) {
    if (send(socket, r, r->header.nlmsg_len, 0) < 0) return -errno;
    union {
        struct nlmsghdr header;
        char bytes[4096];
    } answer;
    ssize_t count;
    do count = recv(socket, &answer, sizeof answer, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0) return -errno;
    if (!NLMSG_OK(&answer.header, (size_t)count) || answer.header.nlmsg_type != NLMSG_ERROR) return -EPROTO;
    return ((struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
}

static int open_netlink(void) {
    int result = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (result < 0) return -errno;
    struct timeval limit = {.tv_sec = 10};
    setsockopt(result, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return result;
}

static int index_of(int socket, const char *name) {
    struct ifreq query = {0};
    strncpy(query.ifr_name, name, IFNAMSIZ - 1);
    return ioctl(socket, SIOCGIFINDEX, &query) < 0 ? -errno : query.ifr_ifindex;
}

static int write_text(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    ssize_t written = write(file, text, strlen(text));
    int error = written < 0 ? -errno : 0;
    close(file);
    return error;
}

typedef struct {
    int network_namespace;
    int socket;
    const char *stage;
} entering;

// Runs in a thread of its own, which ends right after: nobody else sees its network namespace.
static void *enter(void *argument) {
    entering *e = argument;
    e->stage = "enter the network namespace";
    if (setns(e->network_namespace, CLONE_NEWNET) < 0) {
        e->socket = -errno;
        return NULL;
    }
    // Before eth0 exists: it takes the default over and never gets an IPv6 address. lo keeps ::1. A kernel without
    // IPv6, or without one of the others, has nothing to set.
    write_text("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    write_text("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    e->stage = "open netlink in the network namespace";
    e->socket = open_netlink();
    return NULL;
}

static int open_inside(int network_namespace, const char **stage) {
    entering e = {.network_namespace = network_namespace, .socket = -EAGAIN, .stage = "start a thread"};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, enter, &e);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!error) pthread_join(thread, NULL);
    *stage = e.stage;
    return error ? -error : e.socket;
}

static void hardware_address(unsigned char result[6], unsigned char kind, uint32_t address) {
    uint32_t order = htonl(address);
    result[0] = 0x02;  // locally administered, unicast
    result[1] = kind;
    memcpy(result + 2, &order, 4);
}

static int make_pair(int outside, const clinux_port_options *o, int bridge) {
    unsigned char host_hardware[6], inner_hardware[6];
    hardware_address(host_hardware, 0x01, o->address);
    hardware_address(inner_hardware, 0x02, o->address);
    request r;
    begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    link_head(&r, AF_UNSPEC, 0, IFF_UP);
    attribute(&r, IFLA_IFNAME, o->host_name, strlen(o->host_name) + 1);
    attribute(&r, IFLA_MTU, &o->mtu, sizeof o->mtu);
    attribute(&r, IFLA_ADDRESS, host_hardware, sizeof host_hardware);
    attribute(&r, IFLA_MASTER, &bridge, sizeof bridge);
    struct rtattr *information = attribute(&r, IFLA_LINKINFO, NULL, 0);
    attribute(&r, IFLA_INFO_KIND, "veth", 5);
    struct rtattr *data = attribute(&r, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *peer = attribute(&r, VETH_INFO_PEER, NULL, 0);
    // Not up yet: the kernel opens it before the two ends know each other (ENOTCONN).
    link_head(&r, AF_UNSPEC, 0, 0);
    attribute(&r, IFLA_IFNAME, "eth0", 5);
    attribute(&r, IFLA_MTU, &o->mtu, sizeof o->mtu);
    attribute(&r, IFLA_ADDRESS, inner_hardware, sizeof inner_hardware);
    attribute(&r, IFLA_NET_NS_FD, &o->network_namespace, sizeof o->network_namespace);
    end_nested(&r, peer);
    end_nested(&r, data);
    end_nested(&r, information);
    return talk(outside, &r);
}

static int isolate(int outside, int index) {
    request r;
    begin(&r, RTM_SETLINK, 0);
    link_head(&r, AF_BRIDGE, index, 0);
    struct rtattr *port = attribute(&r, IFLA_PROTINFO | NLA_F_NESTED, NULL, 0);
    uint8_t yes = 1;
    attribute(&r, IFLA_BRPORT_ISOLATED, &yes, 1);
    end_nested(&r, port);
    return talk(outside, &r);
}

static int set_up(int inside, int index) {
    request r;
    begin(&r, RTM_NEWLINK, 0);
    link_head(&r, AF_UNSPEC, index, IFF_UP);
    return talk(inside, &r);
}

static int add_address(int inside, int index, const clinux_port_options *o) {
    request r;
    begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg info = {
        .ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)o->prefix_length, .ifa_index = (unsigned)index};
    append(&r, &info, sizeof info);
    uint32_t address = htonl(o->address);
    uint32_t mask = o->prefix_length >= 32 ? 0 : 0xFFFFFFFFU >> o->prefix_length;
    uint32_t broadcast = htonl(o->address | mask);
    attribute(&r, IFA_LOCAL, &address, 4);
    attribute(&r, IFA_ADDRESS, &address, 4);
    attribute(&r, IFA_BROADCAST, &broadcast, 4);
    return talk(inside, &r);
}

static int add_default_route(int inside, int index, const clinux_port_options *o) {
    request r;
    begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
    struct rtmsg info = {
        .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
        .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    append(&r, &info, sizeof info);
    uint32_t gateway = htonl(o->gateway);
    attribute(&r, RTA_GATEWAY, &gateway, 4);
    attribute(&r, RTA_OIF, &index, 4);
    return talk(inside, &r);
}

static int configure_inside(int inside, const clinux_port_options *o, const char **stage) {
    *stage = "bring lo up";
    int error = set_up(inside, 1);  // lo is always the first
    if (error) return error;
    *stage = "find eth0";
    int index = index_of(inside, "eth0");
    if (index < 0) return index;
    *stage = "bring eth0 up";
    if ((error = set_up(inside, index))) return error;
    *stage = "add the address";
    if ((error = add_address(inside, index, o))) return error;
    *stage = "add the default route";
    return add_default_route(inside, index, o);
}

static int connect_port(int outside, int inside, const clinux_port_options *o, const char **stage) {
    *stage = "find the bridge";
    int bridge = index_of(outside, o->bridge);
    if (bridge < 0) return bridge;
    *stage = "make the veth pair";
    int error = make_pair(outside, o, bridge);
    if (error) return error;
    *stage = "find the veth pair";
    int index = index_of(outside, o->host_name);
    if (index < 0) return index;
    *stage = "isolate the bridge port";
    error = isolate(outside, index);
    if (!error) error = configure_inside(inside, o, stage);
    if (error) {
        request r;
        begin(&r, RTM_DELLINK, 0);
        link_head(&r, AF_UNSPEC, index, 0);
        talk(outside, &r);
    }
    return error;
}

int clinux_make_port(const clinux_port_options *options, const char **stage) {
    *stage = "check the names";
    if (strlen(options->host_name) >= IFNAMSIZ || strlen(options->bridge) >= IFNAMSIZ) return -ENAMETOOLONG;
    *stage = "open netlink";
    int outside = open_netlink();
    if (outside < 0) return outside;
    int inside = open_inside(options->network_namespace, stage);
    int error = inside;
    if (inside >= 0) {
        error = connect_port(outside, inside, options, stage);
        close(inside);
    }
    close(outside);
    return error;
}
