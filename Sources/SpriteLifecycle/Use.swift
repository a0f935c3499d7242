// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Synchronization

/// Keeps a machine awake until it is ended or dropped.
final class Use: SpriteUse {
    let id: SpriteID
    let processID: Int32
    private let machine: Mutex<Machine?>

    init(_ machine: Machine, processID: Int32) {
        id = machine.id
        self.processID = processID
        self.machine = Mutex(machine)
    }

    deinit { end() }

    func end() {
        guard let machine = machine.withLock({ $0.take() }) else { return }
        // Nobody waits for it: the machine only counts.
        Task { await machine.endUse() }
    }
}
