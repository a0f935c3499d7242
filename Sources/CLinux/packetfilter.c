// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinuxPacketFilter.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// Several messages in one packet, built in place; the largest use below takes a few hundred bytes.
typedef struct {
    size_t length;
    size_t message;
    char bytes[2048] __attribute__((aligned(8)));
} batch;

static void *append(batch *b, const void *bytes, size_t count) {
    void *place = b->bytes + b->length;
    memset(place, 0, NLMSG_ALIGN(count));
    if (bytes) memcpy(place, bytes, count);
    b->length += NLMSG_ALIGN(count);
    return place;
}

static void begin(batch *b, uint16_t type, uint16_t flags, uint32_t sequence, uint8_t family, uint16_t resource) {
    b->message = b->length;
    struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = sequence};
    append(b, &header, sizeof header);
    struct nfgenmsg head = {.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
    append(b, &head, sizeof head);
}

static void end(batch *b) {
    ((struct nlmsghdr *)(b->bytes + b->message))->nlmsg_len = (uint32_t)(b->length - b->message);
}

static struct nlattr *attribute(batch *b, uint16_t type, const void *bytes, size_t count) {
    struct nlattr head = {.nla_len = (uint16_t)(NLA_HDRLEN + count), .nla_type = type};
    struct nlattr *place = append(b, &head, sizeof head);
    if (count) append(b, bytes, count);
    return place;
}

static struct nlattr *begin_nested(batch *b, uint16_t type) { return attribute(b, type | NLA_F_NESTED, NULL, 0); }

static void end_nested(batch *b, struct nlattr *outer) {
    outer->nla_len = (uint16_t)(b->bytes + b->length - (char *)outer);
}

static void element(
    batch *b, uint16_t message, uint16_t flags, uint32_t sequence, const char *table, const char *set,
    const uint32_t key[2], uint64_t milliseconds) {
    begin(b, NFNL_SUBSYS_NFTABLES << 8 | message, NLM_F_ACK | flags, sequence, NFPROTO_INET, 0);
    attribute(b, NFTA_SET_ELEM_LIST_TABLE, table, strlen(table) + 1);
    attribute(b, NFTA_SET_ELEM_LIST_SET, set, strlen(set) + 1);
    struct nlattr *list = begin_nested(b, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *entry = begin_nested(b, NFTA_LIST_ELEM);
    struct nlattr *name = begin_nested(b, NFTA_SET_ELEM_KEY);
    attribute(b, NFTA_DATA_VALUE, key, 8);
    end_nested(b, name);
    if (milliseconds) {
        uint64_t order = htobe64(milliseconds);
        attribute(b, NFTA_SET_ELEM_TIMEOUT, &order, sizeof order);
    }
    end_nested(b, entry);
    end_nested(b, list);
    end(b);
}

// The first error among the acknowledgements that are asked for, or 0.
static int talk(int socket, const batch *b, int answers) {
    if (send(socket, b->bytes, b->length, 0) < 0) return -errno;
    int result = 0;
    while (answers > 0) {
        char buffer[8192] __attribute__((aligned(8)));
        ssize_t count = recv(socket, buffer, sizeof buffer, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -errno;
        for (struct nlmsghdr *header = (struct nlmsghdr *)buffer; NLMSG_OK(header, (size_t)count);
             header = NLMSG_NEXT(header, count)) {
            if (header->nlmsg_type != NLMSG_ERROR) continue;
            int error = ((struct nlmsgerr *)NLMSG_DATA(header))->error;
            if (error && !result) result = error;
            answers--;
        }
    }
    return result;
}

int clinux_open_packet_filter(void) {
    int result = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (result < 0) return -errno;
    struct timeval limit = {.tv_sec = 5};
    setsockopt(result, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return result;
}

int clinux_renew_element(
    int socket, const char *table, const char *set, uint32_t mark, uint32_t address, uint64_t milliseconds) {
    if (strlen(table) > 64 || strlen(set) > 64) return -ENAMETOOLONG;
    const uint32_t key[2] = {mark, htonl(address)};
    // Adding what is there does not renew it on older kernels. Deleting what is not there fails, and the transaction
    // with it; then only the addition is left to do.
    for (int with_deletion = 1; with_deletion >= 0; with_deletion--) {
        batch b = {0};
        begin(&b, NFNL_MSG_BATCH_BEGIN, 0, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
        end(&b);
        if (with_deletion) element(&b, NFT_MSG_DELSETELEM, 0, 1, table, set, key, 0);
        element(&b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, 2, table, set, key, milliseconds);
        begin(&b, NFNL_MSG_BATCH_END, 0, 3, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
        end(&b);
        int error = talk(socket, &b, with_deletion ? 2 : 1);
        if (!with_deletion || error != -ENOENT) return error;
    }
    return 0;
}

static int configure_log(int socket, uint16_t group, uint16_t type, const void *bytes, size_t count) {
    batch b = {0};
    begin(
        &b, NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, NLM_F_ACK, 1, AF_UNSPEC, group);
    attribute(&b, type, bytes, count);
    end(&b);
    return talk(socket, &b, 1);
}

int clinux_open_packet_log(uint16_t group, uint32_t bytes_max) {
    int result = clinux_open_packet_filter();
    if (result < 0) return result;
    struct nfulnl_msg_config_cmd bind = {.command = NFULNL_CFG_CMD_BIND};
    struct nfulnl_msg_config_mode mode = {.copy_range = htonl(bytes_max), .copy_mode = NFULNL_COPY_PACKET};
    uint32_t delay = htonl(10);  // hundredths of a second that the kernel may collect packets
    int error = configure_log(result, group, NFULA_CFG_CMD, &bind, sizeof bind);
    if (!error) error = configure_log(result, group, NFULA_CFG_MODE, &mode, sizeof mode);
    if (!error) error = configure_log(result, group, NFULA_CFG_TIMEOUT, &delay, sizeof delay);
    if (!error && fcntl(result, F_SETFL, O_NONBLOCK) < 0) error = -errno;
    if (!error) return result;
    close(result);
    return error;
}
