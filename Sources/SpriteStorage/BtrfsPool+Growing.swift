// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
package import SpriteDomain
import SpriteSystem

/// What an operator wants to know of a pool.
package struct PoolFacts: Sendable {
    package var path: String
    package var space: PoolSpace
    /// Of the sparse image: what it may grow to and what it takes now; nil where the pool is a folder on btrfs.
    package var image: (bytes: UInt64, allocatedBytes: UInt64)?
    /// Free on the filesystem that holds the image.
    package var hostFreeBytes: UInt64?
    /// Whether disks have limits.
    package var countsDisks: Bool
    /// Deleted disks and checkpoints whose space is not free yet.
    package var deletedCount: Int
}

extension BtrfsPool {
    package func facts() async throws -> PoolFacts {
        let space = try await space()
        return try await blocking { [self] in
            try poolOperation("look at the pool") {
                var facts = PoolFacts(
                    path: path, space: space, countsDisks: quotas.isOn, deletedCount: try Btrfs.deletedCount(root))
                guard let image else { return facts }
                var file = stat()
                try system("inspect pool image") { fstat(image.file.number, &file) }
                var host = statvfs()
                try system("read free space below the pool image") { fstatvfs(image.file.number, &host) }
                facts.image = (UInt64(clamping: file.st_size), UInt64(clamping: file.st_blocks) &* 512)
                facts.hostFreeBytes = UInt64(host.f_bavail) &* UInt64(host.f_frsize)
                return facts
            }
        }
    }

    /// Lets the pool's image take more; sprites run on. Safe to repeat after a crash.
    package func grow(to bytes: UInt64) async throws {
        try await blocking { [self] in
            try poolOperation("grow the pool") {
                guard let image else {
                    throw SpriteError(
                        .unsupported,
                        "cannot grow the pool: it is a folder of a btrfs filesystem, which has all of that one's space; "
                            + "grow that one with `btrfs device add` or `btrfs filesystem resize`")
                }
                var file = stat()
                try system("inspect pool image") { fstat(image.file.number, &file) }
                let whole = bytes / (1 << 20) * (1 << 20)
                // The same size again: a run that was interrupted may have left the filesystem smaller than the file.
                guard whole >= UInt64(clamping: file.st_size) else {
                    throw SpriteError(
                        .invalidRequest,
                        "cannot grow the pool to \(bytes >> 20) MiB: it has \(file.st_size >> 20) MiB, and cannot shrink"
                    )
                }
                try withPoolLock { try image.grow(to: whole, mountedAt: path) }
                logger.notice("pool grown", metadata: ["pool.bytes": "\(whole)"])
            }
        }
    }
}
