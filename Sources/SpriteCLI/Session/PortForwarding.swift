// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites
import Synchronization

/// Makes the ports that a command opens in its sprite reachable on this machine, for as long as they are open.
final class PortForwarding: Sendable {
    private let sprite: Sprite
    private let isTerminal: Bool
    private let forwards = Mutex<[Int: PortForward]>([:])

    init(_ sprite: Sprite, isTerminal: Bool) {
        self.sprite = sprite
        self.isTerminal = isTerminal
    }

    func changed(_ change: PortChange) {
        guard change.isOpen else { return forwards.withLock { $0[change.port] = nil } }
        // Nobody awaits it: it ends with the process.
        Task { await open(change) }
    }

    private func open(_ change: PortChange) async {
        guard forwards.withLock({ $0[change.port] == nil }) else { return }
        // The same number where it is free here, else any.
        var forward = try? await sprite.forward(localPort: change.port, remotePort: change.port, host: change.address)
        if forward == nil {
            forward = try? await sprite.forward(localPort: 0, remotePort: change.port, host: change.address)
        }
        guard let forward else { return }
        let isNew = forwards.withLock { forwards in
            guard forwards[change.port] == nil else { return false }
            forwards[change.port] = forward
            return true
        }
        guard isNew else { return }
        printNote("sprite: port \(change.port) is at http://127.0.0.1:\(forward.localPort)\(isTerminal ? "\r" : "")")
    }
}
