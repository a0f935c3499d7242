// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

/// How much the pool still takes.
enum SpaceState: Comparable {
    case enough
    /// Less than a tenth is free.
    case low
    /// Less than the reserve: nothing new is begun, and soon writes fail.
    case full
    /// Nothing can be written any more: the disk below failed, or was full.
    case failed

    init(_ space: PoolSpace) {
        self =
            space.isReadOnly
            ? .failed
            : space.availableBytes < space.reserve
                ? .full
                : space.availableBytes < space.totalBytes / 10 ? .low : .enough
    }
}

extension PoolSpace {
    /// Kept for what runs, and for what makes room again.
    var reserve: UInt64 {
        min(max(totalBytes / 100 * Limits.poolReservePercent, Limits.poolReserveBytesMin), Limits.poolReserveBytesMax)
    }
}

extension Drivers {
    /// Refuses what would take more of a pool that is nearly full, while what runs can still write.
    func requireSpace(_ verb: String) async throws {
        let space = try await storage.space()
        guard !space.isReadOnly else { throw SpriteError.poolGivenUp(verb) }
        guard space.availableBytes < space.reserve else { return }
        throw SpriteError(
            .noSpace,
            "cannot \(verb): the pool is nearly full, \(space.availableBytes >> 20) MiB are free and "
                + "\(space.reserve >> 20) MiB are kept for what runs; delete sprites or checkpoints, or grow the pool")
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
            case .failed:
                JournalRecord(
                    "pool.failed", level: .error,
                    "the pool is read-only since the disk below it failed or was full; what was acknowledged is safe")
            }
        state = now
        drivers.journal.record(record)
        guard now >= .full else { return }
        drivers.logger.error("\(record.text)", metadata: ["pool.available.bytes": "\(space.availableBytes)"])
    }
}
