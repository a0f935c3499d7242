// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

extension Lifecycle {
    package func stop(_ name: SpriteName) async throws -> SpriteView {
        try await power(name, "stop the sprite") { try await $0.stopOnRequest("stopped on request") }
    }

    package func restart(_ name: SpriteName) async throws -> SpriteView {
        try await power(name, "restart the sprite") { machine in
            try await machine.stopOnRequest("being restarted")
            _ = try await machine.start()
        }
    }

    /// Does it to the end, also if whoever asked hangs up: a sprite is not left between stopped and started.
    private func power(
        _ name: SpriteName, _ verb: String, _ change: @escaping @Sendable (Machine) async throws -> Void
    ) async throws -> SpriteView {
        let machine = try machine(name)
        guard await !machine.isRestoring else { throw restoreUnderWay(name, verb) }
        return try await Task {
            try await machine.turns.withTurn {
                try await machine.checkExists()
                try await change(machine)
                return await machine.view
            }
        }.value
    }
}

extension Machine {
    /// Ends what runs in order; the caller holds the turn.
    fileprivate func stopOnRequest(_ reason: String) async throws {
        guard sandbox != nil else { return }
        try await stop(inOrder: true, because: reason)
        note("sprite.stopped", reason, fields: [("reason", "request")])
    }
}
