// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
package import SpriteDomain
import SpriteSystem

// A restore has three visible steps, and each state of the disk tells which was the last one:
//   1. replaced-<r> is a fresh copy of the source    its id is higher than live's
//   2. replaced-<r> and live are exchanged           its id is lower than live's
//   3. replaced-<r> is moved to checkpoints/<r>      then made read-only
extension BtrfsPool {
    package func restore(
        _ sprite: SpriteID, from source: DiskSource, keepingReplacedAs replaced: CheckpointID
    ) async throws {
        try await blocking { [self] in
            try poolOperation("restore sprite \(sprite)") {
                try withHeadroom(sprite) { try replaceLive(sprite, source, replaced) }
            }
        }
    }

    private func replaceLive(_ sprite: SpriteID, _ source: DiskSource, _ replaced: CheckpointID) throws {
        let kept = "\(checkpointsPath(sprite))/\(replaced)"
        if let done = try openDirectoryIfExists(kept) { return try finishKept(done) }
        if try stage(sprite, replaced) != .exchanged {
            let disk = try openDirectory(spritePath(sprite))
            let name = Self.stagingName(replaced)
            let original = try openSource(source)
            // A copy left by a restore that was given up may be of another source.
            try Btrfs.delete(in: disk, name)
            try snapshot(original, of: sprite, in: disk, name, readOnly: false)
            FaultPoint.restoreCopied.reached()
            let staged = "\(spritePath(sprite))/\(name)"
            try traced("rename.exchange", name) {
                _ = try checked(clinux_exchange(staged, livePath(sprite)), "exchange \(staged) with live")
            }
            FaultPoint.restoreExchanged.reached()
        }
        try keepReplaced(sprite, replaced)
    }

    private enum Stage { case absent, copied, exchanged }

    private static func stagingName(_ replaced: CheckpointID) -> String { "replaced-\(replaced)" }

    private func stage(_ sprite: SpriteID, _ replaced: CheckpointID) throws -> Stage {
        let place = "\(spritePath(sprite))/\(Self.stagingName(replaced))"
        guard let staged = try openDirectoryIfExists(place) else { return .absent }
        return try Btrfs.identifier(staged) > Btrfs.identifier(openLive(sprite)) ? .copied : .exchanged
    }

    private func keepReplaced(_ sprite: SpriteID, _ replaced: CheckpointID) throws {
        let kept = "\(checkpointsPath(sprite))/\(replaced)"
        try renamePath("\(spritePath(sprite))/\(Self.stagingName(replaced))", kept)
        FaultPoint.restoreReplacedMoved.reached()
        try finishKept(openDirectory(kept))
        FaultPoint.restoreReplacedKept.reached()
    }

    /// Only here: a read-only subvolume could not be moved. Commits, so that the whole restore is durable.
    private func finishKept(_ kept: Descriptor) throws {
        if try !Btrfs.isReadOnly(kept) { try Btrfs.setReadOnly(kept) }
    }

    /// Completes what a crash interrupted, at start, before anybody compares the disk with the registry.
    ///
    /// A copy that never became live is dropped; a state that was replaced is kept, whatever becomes of its restore.
    func settleRestores(_ sprite: SpriteID) throws { try withHeadroom(sprite) { try settle(sprite) } }

    private func settle(_ sprite: SpriteID) throws {
        for name in try directoryNames(spritePath(sprite)) {
            guard name.hasPrefix("replaced-"), let replaced = CheckpointID(String(name.dropFirst(9))) else { continue }
            logger.notice(
                "restore was interrupted", metadata: ["sprite.id": "\(sprite)", "checkpoint.id": "\(replaced)"])
            switch try stage(sprite, replaced) {
            case .absent: break
            case .copied: try Btrfs.delete(in: openDirectory(spritePath(sprite)), name)
            case .exchanged: try keepReplaced(sprite, replaced)
            }
        }
        for name in try directoryNames(checkpointsPath(sprite)) where name.hasPrefix("auto-") {
            try finishKept(openDirectory("\(checkpointsPath(sprite))/\(name)"))
        }
    }
}
