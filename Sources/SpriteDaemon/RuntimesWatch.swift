// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ServiceLifecycle
import SpriteLifecycle
import SpriteRuntimes

/// Takes away mounted layers that no sprite runs on any more.
struct RuntimesWatch: Service {
    private let lifecycle: Lifecycle
    private let runtimes: RuntimesMounts

    init(_ lifecycle: Lifecycle, _ runtimes: RuntimesMounts) {
        self.lifecycle = lifecycle
        self.runtimes = runtimes
    }

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            while true {
                try await Task.sleep(for: .seconds(20))
                await runtimes.sweep(sprites: await lifecycle.spritesWithSandboxes())
            }
        }
    }
}
