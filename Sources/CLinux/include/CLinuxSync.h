// SPDX-License-Identifier: Apache-2.0
#pragma once

/// syncfs(2): writes out everything dirty of the filesystem behind `descriptor`. Returns 0 or -errno.
int clinux_sync_filesystem(int descriptor);
