// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// How much the pool still takes.
enum SpaceState: Comparable {
    case enough
    /// Less than a tenth is free.
    case low
    /// Less than a hundredth: writes begin to fail.
    case full

    init(_ space: PoolSpace) {
        let share = Double(space.availableBytes) / Double(max(1, space.totalBytes))
        self = share < 0.01 ? .full : share < 0.1 ? .low : .enough
    }
}

extension Lifecycle {
    /// Records when the pool becomes full, or has space again.
    func watchSpace(_ state: inout SpaceState) async {
        guard let space = try? await drivers.storage.space() else { return }
        let now = SpaceState(space)
        guard now != state else { return }
        let free = "\(space.availableBytes >> 20) of \(space.totalBytes >> 20) MiB are free"
        let record =
            switch now {
            case .enough: JournalRecord("pool.recovered", "the pool has space again: \(free)")
            case .low: JournalRecord("pool.low", level: .warning, "the pool runs out of space: \(free)")
            case .full: JournalRecord("pool.full", level: .error, "the pool is full: \(free)")
            }
        state = now
        drivers.journal.record(record)
    }
}
