// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/// A network namespace's way out: a veth pair whose one end is a port of a bridge and whose other end is `eth0` inside.
typedef struct {
    /// The namespace that gets `eth0`; owned by us or by a user namespace below ours.
    int network_namespace;
    /// Name of the end on the host, at most 15 bytes.
    const char *host_name;
    /// Name of the bridge.
    const char *bridge;
    uint32_t mtu;
    /// In host byte order. The hardware addresses are derived from it.
    uint32_t address;
    uint32_t gateway;
    int prefix_length;
} clinux_port_options;

/// Makes and configures the pair: lo and eth0 up, address, default route, ping without privileges, every port usable
/// without privileges, IPv6 only on lo; the host's end isolated from the other ports of the bridge.
///
/// Returns 0, or -errno with *stage set to what was being done (a constant string). Nothing is left after a failure.
int clinux_make_port(const clinux_port_options *options, const char **stage);
