// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc

/// Call before the first connection to an SQLite database in WAL mode, which must exist: its shared memory is a mapped
/// file, and on a full btrfs a store to it would end the process.
package func prepareWALIndex(ofDatabase path: String) {
    // SQLite follows a link, and makes its other files beside what it leads to.
    guard let real = realpath(path, nil) else { return }
    defer { free(real) }
    // One that cannot be made is made, or missed, by SQLite.
    clinux_prepare_wal_index("\(String(cString: real))-shm")
}
