// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/// Makes a user namespace that maps 0…count-1 to host_first… and, if network is not NULL, a network namespace it owns.
///
/// Nothing but the returned descriptors keeps them alive. Returns 0 or -errno.
int clinux_make_namespaces(uint32_t host_first, uint32_t count, int *user, int *network);
