// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/// A socket to the kernel's packet filter; -errno on failure.
int clinux_open_packet_filter(void);

/// Makes `mark . address` an element of a set with timeouts in a table of family inet, or renews its timeout.
///
/// Both in host byte order. One transaction: the element is never absent in between. Returns 0 or -errno; blocks for
/// some ten microseconds.
int clinux_renew_element(
    int socket, const char *table, const char *set, uint32_t mark, uint32_t address, uint64_t milliseconds);

/// A non-blocking socket from which the packets come that rules log to a group; -EBUSY if another program reads it.
int clinux_open_packet_log(uint16_t group, uint32_t bytes_max);
