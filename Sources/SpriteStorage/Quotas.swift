// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// btrfs's simple quotas: every byte counts for the subvolume that wrote it first, and for the group of its sprite.
///
/// ```text
/// 1/<the last 12 digits of the sprite's id>    its group, which has the limit
/// 0/<id of a subvolume>                        made by the kernel; member of the group of its sprite
/// ```
///
/// Off in a pool until the first limit: once on they cannot be taken away, and kernels before 6.7 do not mount it any more.
struct Quotas: Sendable {
    private let folder: String
    private let root: Int32

    init(_ root: Descriptor) throws {
        folder = "\(try PendingMetadata.sysfsFolder(root))/qgroups"
        self.root = root.number
    }

    /// Two reads in memory: cheap enough to ask every time, and right over the end of a daemon.
    var isOn: Bool { (try? readSmallFile("\(folder)/mode", bytesMax: 64))?.hasPrefix("squota") ?? false }

    static func group(_ sprite: SpriteID) -> UInt64 {
        1 << 48 | (UInt64(sprite.rawValue.suffix(12), radix: 16) ?? 0)
    }

    /// - Throws: `.unsupported` where the kernel has none.
    func turnOn() throws {
        let result = traced("ioctl.quota_ctl") { clinux_btrfs_quota_enable(root) }
        guard result != -ENOTTY, result != -EINVAL, result != -EOPNOTSUPP else {
            throw SpriteError(
                .unsupported,
                "cannot limit disks: this kernel's btrfs has no simple quotas; that needs Linux 6.7 or newer")
        }
        if result != -EEXIST { try checked(result, "turn on quotas") }
    }

    func make(_ group: UInt64) throws {
        let result = traced("ioctl.qgroup_create") { clinux_btrfs_quota_group(root, group, 1) }
        if result != -EEXIST { try checked(result, "make quota group") }
    }

    /// False while something is counted in it, or belongs to it.
    @discardableResult
    func remove(_ group: UInt64) -> Bool {
        traced("ioctl.qgroup_create", "remove") { clinux_btrfs_quota_group(root, group, 0) == 0 }
    }

    func join(_ subvolume: UInt64, to group: UInt64) throws {
        let result = traced("ioctl.qgroup_assign") { clinux_btrfs_quota_join(root, subvolume, group) }
        if result != -EEXIST { try checked(result, "count subvolume \(subvolume)") }
    }

    func limit(_ group: UInt64, bytes: UInt64?) throws {
        try traced("ioctl.qgroup_limit") {
            _ = try checked(clinux_btrfs_quota_limit(root, group, bytes ?? 0), "limit disk")
        }
    }

    func exists(_ group: UInt64) -> Bool { access(place(group), F_OK) == 0 }

    /// Nil if there is no such group.
    func bytes(_ group: UInt64) -> UInt64? { read("\(place(group))/referenced") }

    /// Zero means none; nil if there is no such group.
    func limit(_ group: UInt64) -> UInt64? { read("\(place(group))/max_referenced") }

    /// Groups of subvolumes and sprites in which nothing is counted.
    func empty() throws -> [UInt64] {
        try directoryNames(folder).compactMap { name in
            let parts = name.split(separator: "_").compactMap { UInt64($0) }
            guard parts.count == 2, parts[0] < 1 << 16 else { return nil }
            let group = parts[0] << 48 | parts[1]
            return bytes(group) == 0 ? group : nil
        }
    }

    private func place(_ group: UInt64) -> String { "\(folder)/\(group >> 48)_\(group & (1 << 48 - 1))" }

    private func read(_ path: String) -> UInt64? {
        guard let text = try? readSmallFile(path, bytesMax: 64) else { return nil }
        return UInt64(text.prefix { $0 != "\n" })
    }
}
