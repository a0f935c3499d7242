// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import ServiceLifecycle
import SpriteDomain

/// Starts, once per run of the daemon, the sprites that start with their host and do not run.
package struct Autostart: Service {
    private let lifecycle: Lifecycle

    package init(_ lifecycle: Lifecycle) { self.lifecycle = lifecycle }

    /// One after the other, so that whoever asks for another sprite meanwhile does not wait for all of them.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            for machine in await lifecycle.all().sorted(by: { $0.id < $1.id }) {
                await lifecycle.startWithHost(machine)
            }
        }
        // A service that ends would end the daemon.
        try await gracefulShutdown()
    }
}

extension Lifecycle {
    fileprivate func startWithHost(_ machine: Machine) async {
        guard await machine.sprite.startsWithHost, await machine.sandbox == nil, !Task.isCancelled else { return }
        do {
            // Not cut in the middle when the daemon is told to end.
            _ = try await Task { try await wake(machine) }.value
            machine.note("sprite.autostarted", "started together with the daemon")
        } catch {
            drivers.logger.error(
                "sprite not started with the host", metadata: ["sprite.id": "\(machine.id)", "error": "\(error)"])
        }
    }
}
