// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem

extension BtrfsPool {
    package func createDisk(_ sprite: SpriteID, from source: DiskSource, limit bytes: UInt64?) async throws {
        try await blocking { [self] in
            try poolOperation("create the disk of sprite \(sprite)") {
                if access(livePath(sprite), F_OK) == 0 { return }
                try makeDirectory(spritePath(sprite), mode: 0o710, group: shiftedRoot)
                try makeDirectory(checkpointsPath(sprite), mode: 0o700)
                FaultPoint.createFolderMade.reached()
                let disk = try openDirectory(spritePath(sprite))
                try limit(sprite, bytes)
                guard source != .empty else {
                    return try snapshot(openTemplate(), of: sprite, in: disk, "live", readOnly: false)
                }
                try markFamily(sprite, of: source)
                let initial = "\(checkpointsPath(sprite))/\(CheckpointID.initial)"
                if access(initial, F_OK) != 0 {
                    let checkpoints = try openDirectory(checkpointsPath(sprite))
                    let original = try openSource(source)
                    if case .live = source { try refuseNestedSubvolumes(original) }
                    let name = CheckpointID.initial.rawValue
                    try snapshot(original, of: sprite, in: checkpoints, name, readOnly: true)
                }
                FaultPoint.createInitialKept.reached()
                try snapshot(openDirectory(initial), of: sprite, in: disk, "live", readOnly: false)
            }
        }
    }

    package func flush(_ sprite: SpriteID) async throws {
        try await blocking { [self] in
            try poolOperation("write out the disk of sprite \(sprite)") { try flush(openLive(sprite)) }
        }
    }

    package func snapshot(_ sprite: SpriteID, as checkpoint: CheckpointID) async throws {
        try await blocking { [self] in
            try poolOperation("create checkpoint \(checkpoint)") {
                let live = try openLive(sprite)
                try refuseNestedSubvolumes(live)
                let checkpoints = try openDirectory(checkpointsPath(sprite))
                do {
                    try snapshot(live, of: sprite, in: checkpoints, checkpoint.rawValue, readOnly: true)
                } catch let error as SystemError where error.number == EEXIST {
                    // Made before a crash; the ioctl makes all of it or nothing.
                }
            }
        }
    }

    package func deleteSnapshot(_ sprite: SpriteID, _ checkpoint: CheckpointID) async throws {
        try await blocking { [self] in
            try poolOperation("delete checkpoint \(checkpoint)") {
                guard let checkpoints = try openDirectoryIfExists(checkpointsPath(sprite)) else { return }
                try Btrfs.delete(in: checkpoints, checkpoint.rawValue)
                commitDeletion()
            }
        }
        emptyTrash()
    }

    package func inventory() async throws -> [SpriteID: DiskInventory] {
        try await blocking { [self] in
            try poolOperation("list the disks of the pool") {
                var result: [SpriteID: DiskInventory] = [:]
                for name in try directoryNames("\(path)/sprites") {
                    guard let sprite = SpriteID(rawValue: name) else { continue }
                    try settleRestores(sprite)
                    let checkpoints = try directoryNames(checkpointsPath(sprite)).compactMap(CheckpointID.init)
                    result[sprite] = DiskInventory(
                        hasLiveDisk: access(livePath(sprite), F_OK) == 0,
                        checkpoints: Set(checkpoints).union([.initial]))
                }
                return result
            }
        }
    }

    // MARK: Parts

    /// What is dirty of this subvolume goes to the disk; the snapshot that follows then has little left to write.
    ///
    /// syncfs(2) would write what every other sprite has dirty as well, and commit. Here only a large change of the
    /// filesystem's structure is committed beforehand, which the snapshot would otherwise do with the sprite frozen.
    func flush(_ live: Descriptor) throws {
        try traced("fsync.subvolume") {
            _ = try checked(clinux_btrfs_flush_subvolume(live.number, root.number, "template"), "flush subvolume")
        }
        if pendingMetadata.isLarge { try Btrfs.commit(live) }
        if let image, !image.directIO {
            try traced("fdatasync.pool_image") {
                _ = try system("write out the pool image") { fdatasync(image.file.number) }
            }
        }
    }

    func openLive(_ sprite: SpriteID) throws -> Descriptor {
        guard let live = try openDirectoryIfExists(livePath(sprite)) else {
            throw SpriteError(.notFound, "cannot use the disk of sprite \(sprite): there is none")
        }
        return live
    }

    func openSource(_ source: DiskSource) throws -> Descriptor {
        switch source {
        case .empty:
            return try openTemplate()
        case .live(let sprite):
            return try openLive(sprite)
        case .checkpoint(let sprite, let checkpoint):
            let place = "\(checkpointsPath(sprite))/\(checkpoint)"
            if let snapshot = try openDirectoryIfExists(place) { return snapshot }
            // A sprite that was not forked began empty, and nothing is kept for that.
            if checkpoint == .initial, access(spritePath(sprite), F_OK) == 0 { return try openTemplate() }
            throw SpriteError(.notFound, "cannot use checkpoint \(checkpoint): it does not exist")
        }
    }

    /// A snapshot would show an empty folder in the place of each.
    func refuseNestedSubvolumes(_ live: Descriptor) throws {
        guard let nested = try Btrfs.nestedSubvolume(live) else { return }
        let inside = nested.hasPrefix("upper/") ? String(nested.dropFirst(5)) : nested
        throw SpriteError(
            .conflict,
            "cannot create checkpoint: \(inside.prefix(512)) is a btrfs subvolume, whose content a checkpoint would "
                + "lose; move its content into an ordinary directory and delete it")
    }
}
