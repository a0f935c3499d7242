// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Dispatch
import Glibc
package import Logging
package import SpriteDomain
import SpriteSystem
import Synchronization

/// Disks of sprites, their checkpoints and bases in one btrfs filesystem.
///
/// ```text
/// template/                  read-only: the disk every new sprite begins with
/// bases/<name>/              read-only: a root filesystem
/// descriptions/<name>.json   what is known of a base
/// bases/.new-<id>/           a base that is being made; locked by who makes it
/// bases/.retired-<boot>-<id>/  a base that was replaced while sprites may use it; deleted after the next boot
/// sprites/<id>/live/         the disk in use: upper/ and work/ of the overlay, plain/ for what cannot lie on one
/// sprites/<id>/checkpoints/<checkpoint>/   read-only snapshots of live
/// sprites/<id>/replaced-<checkpoint>/      during a restore: the copy that becomes live, then what was live
/// trash/<id>/                disks being deleted
/// diffs/<id>/                snapshots of live disks that are being compared; locked by who compares
/// ```
///
/// What lies in `upper` is hostile: only comparisons, restores of a path and the identity of forks look into it. No other
/// operation on one sprite lists a directory.
package final class BtrfsPool: StorageDriver, TreeStorageDriver, BaseStoreDriver {
    /// Where the pool is mounted.
    package let path: String
    private let lockPath: String
    let runDirectory: String
    let logger: Logger
    let image: PoolImage?
    /// Inode numbers that bases use and sprites do not; see ``BtrfsPool/ensureTemplate(inodes:)``.
    let reservedInodes: UInt64
    let root: Descriptor
    let pendingMetadata: PendingMetadata
    let quotas: Quotas
    let mounts = Mutex(BaseMounts())
    /// Deletes what lies in the trash, one after the other.
    let trashQueue = DispatchQueue(label: "sprite.storage.trash")

    /// Opens the pool of a data directory and makes what is missing.
    ///
    /// Safe to call from several processes at once. The caller has a mount namespace of its own
    /// (`clinux_private_mounts`), in which the pool appears.
    ///
    /// - Parameters:
    ///   - imageBytes: Size of the image where one has to be made; nil takes four fifths of the free space, at least
    ///     4 GiB. The file is sparse.
    ///   - reservedInodes: Lower than the default only in tests, since reserving takes 20 µs each.
    package static func open(
        dataDirectory: String, runDirectory: String, imageBytes: UInt64? = nil, reservedInodes: UInt64 = 1 << 17,
        logger: Logger
    ) async throws -> BtrfsPool {
        let pool = try await blocking {
            try poolOperation("open the pool in \(dataDirectory)") {
                try BtrfsPool(dataDirectory, runDirectory, imageBytes, reservedInodes, logger)
            }
        }
        pool.emptyTrash()
        return pool
    }

    private init(
        _ dataDirectory: String, _ runDirectory: String, _ imageBytes: UInt64?, _ reservedInodes: UInt64,
        _ logger: Logger
    ) throws {
        path = "\(dataDirectory)/pool"
        lockPath = "\(dataDirectory)/pool.lock"
        self.runDirectory = runDirectory
        self.logger = logger
        self.reservedInodes = reservedInodes
        let lockFile = try Self.takeLock(lockPath)
        try makeDirectory(path, mode: 0o710, group: shiftedRoot)
        let imagePath = "\(dataDirectory)/pool.img"
        if access(imagePath, F_OK) != 0, clinux_filesystem_type(path) == Btrfs.magic {
            image = nil
        } else {
            image = try PoolImage.mount(imagePath, at: path, bytes: imageBytes, logger: logger)
        }
        try Self.checkWritable(path)
        root = try openDirectory(path)
        pendingMetadata = try PendingMetadata(root)
        quotas = try Quotas(root)
        if image != nil { try reserveMetadata() }
        try system("set owner of \(path)") { fchown(root.number, 0, shiftedRoot) }
        try system("set mode of \(path)") { fchmod(root.number, 0o710) }
        try makeDirectory("\(path)/bases", mode: 0o700)
        try makeDirectory("\(path)/descriptions", mode: 0o700)
        try makeDirectory("\(path)/trash", mode: 0o700)
        try makeDirectory("\(path)/sprites", mode: 0o710, group: shiftedRoot)
        for folder in ["", "/roots", "/bases", "/views"] {
            try makeDirectory("\(runDirectory)\(folder)", mode: 0o710, group: shiftedRoot)
        }
        try ensureTemplate(inodes: reservedInodes)
        try countDisks()
        try cleanUnfinishedBases()
        try cleanComparisons()
        withExtendedLifetime(lockFile) {}
    }

    /// Gives the filesystem's structure room of its own, a tenth of the pool up to 1 GiB.
    ///
    /// A new filesystem has 8 MiB for it and takes more when needed. Once files have filled everything else there is
    /// no more: then neither checkpoints nor deleting work. Moving what is there makes a first piece of full size.
    private func reserveMetadata() throws {
        guard let allocated = pendingMetadata.allocatedBytes, allocated < 16 << 20 else { return }
        try runTool("btrfs", ["-q", "balance", "start", "-f", "-m", path])
    }

    private static func takeLock(_ path: String) throws -> Descriptor {
        let file = try Descriptor.open(path, O_RDWR | O_CREAT)
        try lock(file, path, seconds: 60)
        return file
    }

    /// Keeps other processes from opening the pool, or installing a base, meanwhile.
    func withPoolLock<Value>(_ body: () throws -> Value) throws -> Value {
        let file = try Self.takeLock(lockPath)
        return try withExtendedLifetime(file) { try body() }
    }

    /// btrfs turns read-only by itself after an error of the disk below it.
    private static func checkWritable(_ path: String) throws {
        var facts = statvfs()
        try system("inspect \(path)") { statvfs(path, &facts) }
        guard facts.f_flag & UInt(ST_RDONLY) == 0 else {
            throw SpriteError(
                .internalError,
                "cannot open the pool: \(path) is read-only; btrfs does that after a disk error, see the kernel's log")
        }
    }

    /// Takes every mount of this pool out of this process's namespace; for tests and an orderly end.
    package func close() async {
        await finishTrash()
        _ = try? await blocking { [self] in
            for name in (try? directoryNames("\(runDirectory)/roots")) ?? [] { detach("\(runDirectory)/roots/\(name)") }
            for name in (try? directoryNames("\(runDirectory)/bases")) ?? [] { detach("\(runDirectory)/bases/\(name)") }
            detach(nothingPath)
            if image != nil { clinux_detach_mount(path) }
        }
    }

    package func space() async throws -> PoolSpace {
        try await blocking { [self] in
            try poolOperation("read the pool's free space") {
                var facts = statvfs()
                try system("read free space of \(path)") { statvfs(path, &facts) }
                let unit = UInt64(facts.f_frsize)
                let total = UInt64(facts.f_blocks) &* unit
                let available = UInt64(facts.f_bavail) &* unit
                let isReadOnly = facts.f_flag & UInt(ST_RDONLY) != 0
                guard let image else {
                    return PoolSpace(totalBytes: total, availableBytes: available, isReadOnly: isReadOnly)
                }
                // The image is sparse: what btrfs thinks is free may not be there any more on the host's filesystem.
                var file = stat()
                try system("inspect pool image") { fstat(image.file.number, &file) }
                var host = statvfs()
                try system("read free space below the pool image") { fstatvfs(image.file.number, &host) }
                let used = total &- min(total, UInt64(facts.f_bfree) &* unit)
                let allocated = UInt64(clamping: file.st_blocks) &* 512
                let reusable = allocated &- min(allocated, used)
                let growth = UInt64(host.f_bavail) &* UInt64(host.f_frsize)
                return PoolSpace(
                    totalBytes: total, availableBytes: min(available, growth &+ reusable), isReadOnly: isReadOnly)
            }
        }
    }
}

// Paths, all made of our own names and of checked identifiers.
extension BtrfsPool {
    func spritePath(_ sprite: SpriteID) -> String { "\(path)/sprites/\(sprite)" }
    func livePath(_ sprite: SpriteID) -> String { "\(path)/sprites/\(sprite)/live" }
    func checkpointsPath(_ sprite: SpriteID) -> String { "\(path)/sprites/\(sprite)/checkpoints" }
    /// What the sprite had changed at a checkpoint, with the owners of its user namespace.
    package func checkpointUpper(_ sprite: SpriteID, _ checkpoint: CheckpointID) -> String {
        "\(checkpointsPath(sprite))/\(checkpoint)/upper"
    }
    package func basePath(_ base: BaseName) -> String { "\(path)/bases/\(base)" }

    /// Directories of a sprite's disk on which an overlay cannot lie, and where they belong inside.
    ///
    /// They are reachable for host user and group 100000, which are root of the sprite's user namespace.
    package func plainDirectories(_ sprite: SpriteID) -> [(source: String, destination: String)] {
        PlainDirectory.all.map { ("\(livePath(sprite))/plain/\($0.name)", $0.destination) }
    }
}

/// A directory beside the overlay.
struct PlainDirectory {
    var name: String
    var destination: String

    static let all = [
        PlainDirectory(name: "docker", destination: "/var/lib/docker"),
        PlainDirectory(name: "containers", destination: "/var/lib/containers"),
    ]
}
