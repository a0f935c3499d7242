// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

extension Timestamp {
    /// The wall clock, now.
    package static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
