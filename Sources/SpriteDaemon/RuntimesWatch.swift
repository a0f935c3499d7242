// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import ServiceLifecycle
import SpriteDomain
import SpriteLifecycle
import SpriteRuntimes

/// Says what could not be read of mounted layers, and takes away those that no sprite runs on any more.
struct RuntimesWatch: Service {
    private let lifecycle: Lifecycle
    private let runtimes: RuntimesMounts

    private let journal: any JournalRecorder
    private let logger: Logger

    init(_ lifecycle: Lifecycle, _ runtimes: RuntimesMounts, _ journal: any JournalRecorder, _ logger: Logger) {
        self.journal = journal
        self.logger = logger
        self.lifecycle = lifecycle
        self.runtimes = runtimes
    }

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            for round in 1... {
                try await Task.sleep(for: .seconds(2))
                await report()
                guard round.isMultiple(of: 10) else { continue }
                await runtimes.sweep(sprites: await lifecycle.spritesWithSandboxes())
            }
        }
    }

    /// A sprite only sees EIO: its journal says why.
    private func report() async {
        for (fault, sprites) in await runtimes.newFaults() {
            logger.error("\(fault.description)", metadata: ["runtimes": "\(fault.layer)", "object": "\(fault.object)"])
            for sprite in sprites {
                journal.record(
                    JournalRecord(
                        "runtimes.unreadable", level: .error, sprite: sprite, fault.description,
                        fields: [("runtimes", .text("\(fault.layer)")), ("object", .text(fault.object))]))
            }
        }
    }
}
