// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
package import SpriteDomain
import SpriteSystem

extension BtrfsPool {
    package func limitDisk(_ sprite: SpriteID, bytes: UInt64?) async throws {
        try await blocking { [self] in
            try poolOperation("limit the disk of sprite \(sprite)") { try limit(sprite, bytes) }
        }
    }

    /// Also makes the group of a sprite without a limit, where others have one, so that what it writes is counted.
    func limit(_ sprite: SpriteID, _ bytes: UInt64?) throws {
        if !quotas.isOn {
            guard bytes != nil else { return }
            try quotas.turnOn()
            try countDisks()
            logger.notice("disks have limits from now on", metadata: ["pool.path": "\(path)"])
        }
        let group = Quotas.group(sprite)
        if !quotas.exists(group) { try count(sprite) }
        // It may be set already: then nothing is committed.
        if quotas.limit(group) ?? 0 != bytes ?? 0 { try quotas.limit(group, bytes: bytes) }
    }

    /// Lets the daemon's own few writes to a full disk through, without which it could be neither started, and so never
    /// emptied from inside, nor restored. Killed in the middle, the next start sets the limit again.
    func withHeadroom<Value>(_ sprite: SpriteID, _ body: () throws -> Value) throws -> Value {
        let group = Quotas.group(sprite)
        guard let limit = quotas.limit(group), limit > 0, let used = quotas.bytes(group),
            used + Limits.diskHeadroomBytes > limit
        else { return try body() }
        try quotas.limit(group, bytes: max(limit, used) + Limits.diskHeadroomBytes)
        defer {
            do {
                try quotas.limit(group, bytes: limit)
            } catch {
                logger.error("disk limit not set again", metadata: ["sprite.id": "\(sprite)", "error": "\(error)"])
            }
        }
        return try body()
    }

    /// Takes a snapshot that counts for the sprite.
    func snapshot(
        _ source: Descriptor, of sprite: SpriteID, in parent: Descriptor, _ name: String, readOnly: Bool
    ) throws {
        guard quotas.isOn else {
            return try Btrfs.snapshot(source, in: parent, name, readOnly: readOnly)
        }
        let group = Quotas.group(sprite)
        // Made before quotas were turned on, in the same moment.
        if !quotas.exists(group) { try count(sprite) }
        try Btrfs.snapshot(source, in: parent, name, readOnly: readOnly, group: group)
    }

    /// Has everything counted that belongs to no group yet; nothing where quotas are off.
    func countDisks() throws {
        guard quotas.isOn else { return }
        for name in try directoryNames("\(path)/sprites") {
            guard let sprite = SpriteID(rawValue: name), !quotas.exists(Quotas.group(sprite)) else { continue }
            try count(sprite)
        }
        try removeEmptyGroups()
    }

    private func count(_ sprite: SpriteID) throws {
        let group = Quotas.group(sprite)
        try quotas.make(group)
        for place in [spritePath(sprite), checkpointsPath(sprite)] {
            for name in try directoryNames(place) {
                guard let folder = try openDirectoryIfExists("\(place)/\(name)"), Btrfs.isSubvolume(folder) else {
                    continue
                }
                try quotas.join(try Btrfs.identifier(folder), to: group)
            }
        }
    }

    /// What was deleted leaves its groups: the kernel still counts in them while forks hold some of it.
    func removeEmptyGroups() throws {
        guard quotas.isOn else { return }
        let known = Set(try directoryNames("\(path)/sprites").compactMap(SpriteID.init(rawValue:)).map(Quotas.group))
        // Those of subvolumes first: a group with members stays. One of a subvolume that exists is never empty.
        for group in try quotas.empty().sorted() where !known.contains(group) { quotas.remove(group) }
    }
}

extension BtrfsPool {
    package func diskUse(_ sprite: SpriteID, bases: Set<BaseName>) async throws -> DiskUse {
        try await blocking { [self] in
            try poolOperation("measure the disk of sprite \(sprite)") {
                let live = try openLive(sprite)
                // What is only in memory has no place on the disk yet.
                try flush(live)
                var count = ExtentCount()
                try count.add(live)
                let checkpoints = try directoryNames(checkpointsPath(sprite)).compactMap { CheckpointID($0) }
                    .sorted { $0.rawValue < $1.rawValue }
                var measured: [CheckpointID?] = [nil]
                for checkpoint in checkpoints {
                    // It may be deleted meanwhile.
                    let place = "\(checkpointsPath(sprite))/\(checkpoint)"
                    guard let snapshot = try openDirectoryIfExists(place) else { continue }
                    try count.add(snapshot)
                    measured.append(checkpoint)
                }
                for base in bases {
                    if let base = try openDirectoryIfExists(basePath(base)) { try count.exclude(base) }
                }
                for other in try family(of: sprite) {
                    for place in ["\(spritePath(other))/live"] + (try checkpointPlaces(other)) {
                        guard let state = try openDirectoryIfExists(place) else { continue }
                        try count.exclude(state)
                    }
                }
                return count.result(measured, counted: quotas.bytes(Quotas.group(sprite)))
            }
        }
    }

    private func checkpointPlaces(_ sprite: SpriteID) throws -> [String] {
        try directoryNames(checkpointsPath(sprite)).map { "\(checkpointsPath(sprite))/\($0)" }
    }

    // MARK: Families

    private static let familyAttribute = "user.sprite.family"

    /// Only forks share contents with each other, so each knows the first of them; before anything is shared.
    func markFamily(_ sprite: SpriteID, of source: DiskSource) throws {
        switch source {
        case .empty:
            break
        case .live(let original), .checkpoint(let original, _):
            guard original != sprite else { return }
            try checked(
                clinux_attribute_set(spritePath(sprite), Self.familyAttribute, familyName(original)),
                "mark the folder of sprite \(sprite)")
        }
    }

    private func familyName(_ sprite: SpriteID) -> String {
        var value = [CChar](repeating: 0, count: 64)
        let count = clinux_attribute_get(spritePath(sprite), Self.familyAttribute, &value, 64)
        guard count > 0 else { return sprite.rawValue }
        return String(decoding: value.prefix(Int(count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Other sprites that may share contents with this one. A fork of an older daemon does not know whose it is.
    private func family(of sprite: SpriteID) throws -> [SpriteID] {
        let name = familyName(sprite)
        let isUnmarkedFork = isFork(sprite) && name == sprite.rawValue
        return try directoryNames("\(path)/sprites").compactMap(SpriteID.init(rawValue:)).filter { other in
            guard other != sprite else { return false }
            let otherName = familyName(other)
            return otherName == name || isUnmarkedFork || (isFork(other) && otherName == other.rawValue)
        }
    }

    private func isFork(_ sprite: SpriteID) -> Bool {
        access("\(checkpointsPath(sprite))/\(CheckpointID.initial)", F_OK) == 0
    }
}

/// Counts pieces of the disk over several states, each once.
private struct ExtentCount {
    private struct Piece {
        var bytes: UInt64
        var lastState: Int32
        var isInSeveral = false
        var isShared = false
    }

    private var pieces: [UInt64: Piece] = [:]
    private var totals: [UInt64] = []

    mutating func add(_ state: Descriptor) throws {
        let index = Int32(totals.count)
        var total: UInt64 = 0
        try Self.walk(state) { start, bytes in
            guard var piece = pieces[start] else {
                guard pieces.count < Limits.diskPiecesMax else {
                    throw SpriteError(
                        .limitReached, "cannot measure the disk: it has more than \(Limits.diskPiecesMax) pieces")
                }
                pieces[start] = Piece(bytes: bytes, lastState: index)
                total += bytes
                return
            }
            guard piece.lastState != index else { return }
            piece.lastState = index
            piece.isInSeveral = true
            pieces[start] = piece
            total += bytes
        }
        totals.append(total)
    }

    /// What this state refers to is not the sprite's alone.
    mutating func exclude(_ state: Descriptor) throws {
        try Self.walk(state) { start, _ in
            if pieces[start] != nil { pieces[start]?.isShared = true }
        }
    }

    func result(_ states: [CheckpointID?], counted: UInt64?) -> DiskUse {
        var own = [UInt64](repeating: 0, count: states.count)
        var (ownBytes, sharedBytes): (UInt64, UInt64) = (0, 0)
        for piece in pieces.values {
            if piece.isShared { sharedBytes += piece.bytes } else { ownBytes += piece.bytes }
            if !piece.isShared, !piece.isInSeveral { own[Int(piece.lastState)] += piece.bytes }
        }
        return DiskUse(
            countedBytes: counted, ownBytes: ownBytes, sharedBytes: sharedBytes,
            states: states.indices.map { .init(checkpoint: states[$0], bytes: totals[$0], ownBytes: own[$0]) })
    }

    private static func walk(_ state: Descriptor, _ body: (UInt64, UInt64) throws -> Void) throws {
        var cursor = clinux_extent_cursor()
        let capacity = clinux_extents_capacity
        var extents = [clinux_extent](repeating: clinux_extent(), count: capacity)
        while true {
            let count = try checked(
                clinux_btrfs_extents(state.number, &cursor, &extents, Int32(capacity)), "list contents")
            guard count > 0 else { return }
            for extent in extents.prefix(Int(count)) { try body(extent.start, extent.bytes) }
        }
    }
}
