// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdbool.h>
#include <stdint.h>

/// Opens the folder of a process below /proc (O_PATH): it means this process for ever, also when its number is used
/// again. Returns the descriptor or -errno.
int clinux_open_process(int process);

/// Opens the network namespace of such a process. Returns the descriptor, or -errno: ESRCH once the process has ended.
int clinux_open_network_of(int process_folder);

/// Makes a non-blocking TCP socket that belongs to another network namespace.
///
/// A short-lived thread enters the namespace, so that no other code of this process ever runs there.
/// Returns the descriptor or -errno.
int clinux_socket_in(int network_namespace, bool ipv6);

/// A TCP socket that listens.
typedef struct {
    uint8_t address[16];
    uint64_t inode;
    uint16_t port;
    bool ipv6;
} clinux_listening_socket;

/// Finds the TCP sockets that listen in a network namespace, through sock_diag(7).
///
/// It looks at nothing else, so it takes microseconds; /proc/net/tcp walks the table of every connection of the host,
/// which took 14 ms. Returns how many there are, at most `count`, or -errno.
int clinux_listening_in(int network_namespace, clinux_listening_socket *found, int count);

/// Begins to connect a TCP socket to 4 (ipv6: 16) address bytes in network order.
///
/// Returns 0 when connected, 1 while it is under way, or -errno.
int clinux_connect(int socket, const uint8_t *address, bool ipv6, uint16_t port);

/// Waits up to so many milliseconds for a connection that is under way; the same results.
int clinux_connect_wait(int socket, int milliseconds);
