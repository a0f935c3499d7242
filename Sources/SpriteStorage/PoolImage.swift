// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import SpriteDomain
import SpriteSystem

/// The file that holds the pool where the data directory does not lie on btrfs, shown through a loop device.
struct PoolImage: Sendable {
    let file: Descriptor
    /// False: what btrfs has written may still be in the host's page cache.
    let directIO: Bool

    /// Makes the image if there is none and mounts it in this process's mount namespace.
    ///
    /// The caller holds the pool's lock. A loop device that already shows the file is used: sprites that outlived a
    /// daemon keep its filesystem alive through their mounts, and a second device on the same file would destroy it.
    static func mount(_ path: String, at target: String, bytes: UInt64?, logger: Logger) throws -> PoolImage {
        if access(path, F_OK) != 0 { try format(path, bytes: bytes ?? defaultBytes(path), logger: logger) }
        let file = try Descriptor.open(path, O_RDWR | O_NOFOLLOW)
        let existing = try existingDevice(file)
        let (device, number) = try existing ?? newDevice(file)
        var facts = clinux_loop_facts()
        try checked(clinux_loop_inspect(device.number, &facts), "inspect /dev/loop\(number)")
        LoopFlushes.ensure(number, logger: logger)
        if try isMountPoint(target) { return PoolImage(file: file, directIO: facts.direct_io != 0) }
        // Freed space goes back to the host's filesystem, a little at a time.
        let options = "discard=async"
        _ = try withExtendedLifetime(device) {
            // What lies in a pool came from images and sprites.
            let flags = UInt(MS_NOATIME | MS_NODEV)
            let result = clinux_mount("/dev/loop\(number)", target, "btrfs", flags, options)
            // Sprites keep the filesystem mounted, and the kernel does not make one writable that it gave up.
            if existing != nil, result == -EINVAL || result == -EROFS { throw SpriteError.poolGivenUp("open the pool") }
            return try checked(result, "mount \(path) at \(target)")
        }
        return PoolImage(file: file, directIO: facts.direct_io != 0)
    }

    /// Makes the file, the device and the filesystem that large, while all are in use.
    func grow(to bytes: UInt64, mountedAt target: String) throws {
        guard let (device, number) = try Self.existingDevice(file) else {
            throw SystemError(ENXIO, "find the loop device of the pool image")
        }
        try system("set size of the pool image") { ftruncate(file.number, off_t(clamping: bytes)) }
        try system("write out the pool image's size") { fsync(file.number) }
        try checked(clinux_loop_grow(device.number), "grow /dev/loop\(number)")
        try runTool("btrfs", ["-q", "filesystem", "resize", "max", target])
    }

    private static func isMountPoint(_ path: String) throws -> Bool {
        var inside = stat()
        var outside = stat()
        try system("inspect \(path)") { stat(path, &inside) }
        try system("inspect \(path)/..") { stat("\(path)/..", &outside) }
        return inside.st_dev != outside.st_dev
    }

    /// What the image may grow to: four fifths of what is free, since the host's own programs share the filesystem.
    private static func defaultBytes(_ path: String) throws -> UInt64 {
        var facts = statvfs()
        let folder = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        try system("read free space of \(folder)") { statvfs(folder, &facts) }
        let free = UInt64(facts.f_bavail) &* UInt64(facts.f_frsize)
        return max(4 << 30, free / 5 * 4)
    }

    private static func format(_ path: String, bytes: UInt64, logger: Logger) throws {
        let temporary = "\(path).new"
        unlink(temporary)
        do {
            let file = try Descriptor.open(temporary, O_RDWR | O_CREAT | O_EXCL)
            // btrfs works in sectors; the least that mkfs accepts is about 110 MB.
            let size = Int64(clamping: bytes / (1 << 20) * (1 << 20))
            try system("set size of \(temporary)") { ftruncate(file.number, off_t(size)) }
            let arguments = ["-q", "-m", "single", "-d", "single", "--nodiscard", "-L", "sprites", temporary]
            try runTool("mkfs.btrfs", arguments)
            try system("write out \(temporary)") { fsync(file.number) }
            try renamePath(temporary, path)
        } catch {
            unlink(temporary)
            throw error
        }
        logger.notice("pool image made", metadata: ["pool.image": "\(path)", "pool.bytes": "\(bytes)"])
    }

    static func existingDevice(_ file: Descriptor) throws -> (Descriptor, Int32)? {
        var facts = stat()
        try system("inspect pool image") { fstat(file.number, &facts) }
        for name in try directoryNames("/sys/block") where name.hasPrefix("loop") {
            guard let number = Int32(name.dropFirst(4)), access("/sys/block/\(name)/loop/backing_file", F_OK) == 0,
                let device = try? Descriptor.open("/dev/\(name)", O_RDWR)
            else { continue }
            // With the descriptor open the device cannot vanish, so what it shows now stays true.
            var shown = clinux_loop_facts()
            guard clinux_loop_inspect(device.number, &shown) == 0 else { continue }
            if shown.device == UInt64(facts.st_dev), shown.inode == UInt64(facts.st_ino) { return (device, number) }
        }
        return nil
    }

    private static func newDevice(_ file: Descriptor) throws -> (Descriptor, Int32) {
        var number: Int32 = -1
        let device = try checked(clinux_loop_attach(file.number, &number), "attach a loop device")
        return (Descriptor(owning: device), number)
    }
}
