// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// How often a sandbox ran into its limits.
package struct LimitHits: Sendable, Hashable {
    /// Processes that the kernel killed since there was no memory left for them.
    package var memoryKills: Int
    /// New processes that were refused.
    package var refusedProcesses: Int

    package init(memoryKills: Int = 0, refusedProcesses: Int = 0) {
        self.memoryKills = memoryKills
        self.refusedProcesses = refusedProcesses
    }
}
