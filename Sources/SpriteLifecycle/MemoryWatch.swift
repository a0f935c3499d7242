// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import Logging
import ServiceLifecycle

/// Stops frozen sprites, those unused for the longest time first, while the host is short of memory.
package struct MemoryWatch: Service {
    private let lifecycle: Lifecycle
    private let isShort: @Sendable () -> Bool
    private let logger: Logger

    /// - Parameter isShort: Whether less memory is free than should be; asked once a second.
    package init(_ lifecycle: Lifecycle, logger: Logger, isShort: @escaping @Sendable () -> Bool) {
        self.lifecycle = lifecycle
        self.logger = logger
        self.isShort = isShort
    }

    package func run() async throws {
        try? await cancelWhenGracefulShutdown {
            while true {
                try await Task.sleep(for: .seconds(1))
                // One at a time: what one gives back may be enough.
                while isShort(), let machine = await lifecycle.longestFrozen() {
                    guard await machine.giveWay(because: .memory) else { break }
                    try Task.checkCancellation()
                }
            }
        }
    }
}
