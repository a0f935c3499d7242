// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Dispatch
import Glibc
import Logging
package import SpriteDomain
import SpriteSystem

extension BtrfsPool {
    /// One rename; the subvolumes are unlinked afterwards, on a thread of their own.
    package func deleteDisk(_ sprite: SpriteID) async throws {
        try await blocking { [self] in
            try poolOperation("delete the disk of sprite \(sprite)") {
                detach(rootPath(sprite))
                rmdir(rootPath(sprite))
                do {
                    try renamePath(spritePath(sprite), "\(path)/trash/\(sprite)-\(SpriteID.random())")
                } catch let error as SystemError where error.number == ENOENT {
                    return
                } catch let error as SystemError where error.number == ENOSPC || error.number == EDQUOT {
                    // A pool so full that it cannot rename can still unlink subvolumes.
                    try discardDisk(spritePath(sprite))
                }
                commitDeletion()
                FaultPoint.destroyMovedToTrash.reached()
            }
        }
        emptyTrash()
    }

    /// Else a power cut brings back what the registry, which is on the disk at once, does not know any more.
    ///
    /// What cannot be committed is deleted all the same: on a full pool that is what helps.
    func commitDeletion() {
        do {
            try Btrfs.commit(root)
        } catch {
            logger.warning("a deletion may not outlive a power cut", metadata: ["error": "\(error)"])
        }
    }

    func emptyTrash() {
        trashQueue.async { [self] in
            do {
                for name in try directoryNames("\(path)/trash") { try discardDisk("\(path)/trash/\(name)") }
                try reclaimIfTight()
                try removeEmptyGroups()
            } catch {
                logger.error("trash cannot be emptied", metadata: ["error": "\(error)"])
            }
        }
    }

    /// Waits until what was deleted so far is unlinked.
    package func finishTrash() async {
        await withCheckedContinuation { continuation in trashQueue.async { continuation.resume() } }
    }

    /// On a pool with little room, makes the kernel give back the space of what was unlinked now, not in 30 s.
    private func reclaimIfTight() throws {
        var facts = statvfs()
        try system("read free space of \(path)") { statvfs(path, &facts) }
        guard facts.f_bavail < facts.f_blocks / 10 else { return }
        // A commit wakes the kernel's cleaner; at most as long as it would take by itself.
        for _ in 0..<300 {
            try Btrfs.commit(root)
            try system("read free space of \(path)") { statvfs(path, &facts) }
            if try Btrfs.deletedCount(root) == 0, facts.f_bavail > 0 { break }
            usleep(100_000)
        }
        try Btrfs.commit(root)
    }

    /// Unlinks every subvolume of a disk, then its directories. Another process may do the same meanwhile.
    private func discardDisk(_ folder: String) throws {
        for place in ["\(folder)/checkpoints", folder] {
            guard let directory = try openDirectoryIfExists(place) else { continue }
            for name in try directoryNames(place) where !(place == folder && name == "checkpoints") {
                try Btrfs.delete(in: directory, name)
                FaultPoint.trashHalfEmptied.reached()
            }
            if rmdir(place) != 0, errno != ENOENT { throw SystemError(errno, "remove \(place)") }
        }
    }
}
