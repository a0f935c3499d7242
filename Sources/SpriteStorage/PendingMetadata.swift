// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// How much of the filesystem's structure the next commit will have to write, by btrfs's own accounting in sysfs.
struct PendingMetadata: Sendable {
    private let folder: String

    init(_ pool: Descriptor) throws { folder = try "\(Self.sysfsFolder(pool))/allocation" }

    /// Where the kernel shows what it knows of this filesystem.
    static func sysfsFolder(_ pool: Descriptor) throws -> String {
        var identity = [UInt8](repeating: 0, count: 16)
        try checked(clinux_btrfs_identity(pool.number, &identity), "read identity of the pool")
        var text = ""
        for (index, byte) in identity.enumerated() {
            if [4, 6, 8, 10].contains(index) { text += "-" }
            text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return "/sys/fs/btrfs/\(text)"
    }

    /// True if a commit would take noticeably longer than an empty one, or if that cannot be known.
    ///
    /// Measured: one new file reserves 16 KiB and sets 2.5 MB aside; 20,000 new files 7.7 MB and 250 MB, which take
    /// 35 ms to commit; removing them reserves nothing but sets 250 MB aside.
    var isLarge: Bool {
        guard let reserved = read("metadata/bytes_reserved"), let pinned = read("metadata/bytes_pinned"),
            let setAside = read("metadata/bytes_may_use"), let global = read("global_rsv_reserved")
        else { return true }
        return reserved + pinned > 1 << 20 || setAside - min(setAside, global) > 24 << 20
    }

    /// What is set apart for the filesystem's structure; files cannot take it.
    var allocatedBytes: UInt64? { read("metadata/total_bytes") }

    private func read(_ name: String) -> UInt64? {
        guard let text = try? readSmallFile("\(folder)/\(name)", bytesMax: 64) else { return nil }
        return UInt64(text.prefix { $0 != "\n" })
    }
}
