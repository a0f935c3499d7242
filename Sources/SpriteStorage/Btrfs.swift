// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CBtrfs
import CLinux
import Glibc
import SpriteSystem

/// The operations of btrfs that the pool uses, on descriptors; each throws ``SystemError``.
enum Btrfs {
    static let magic: Int64 = 0x9123_683E

    static func createSubvolume(in parent: Descriptor, _ name: String) throws {
        try traced("ioctl.subvol_create", name) {
            try check(btrfs_util_create_subvolume_fd(parent.number, name, 0, nil, nil), "create subvolume \(name)")
        }
    }

    /// Commits a transaction: when it returns, everything done to the pool before is on stable storage.
    ///
    /// - Parameter group: The quota group in which the snapshot counts from its first byte on.
    static func snapshot(
        _ source: Descriptor, in parent: Descriptor, _ name: String, readOnly: Bool, group: UInt64? = nil
    ) throws {
        let flags = readOnly ? Int32(BTRFS_UTIL_CREATE_SNAPSHOT_READ_ONLY) : 0
        var inherited: OpaquePointer?
        if let group {
            try check(btrfs_util_create_qgroup_inherit(0, &inherited), "describe snapshot \(name)")
            try check(btrfs_util_qgroup_inherit_add_group(&inherited, group), "describe snapshot \(name)")
        }
        defer { if inherited != nil { btrfs_util_destroy_qgroup_inherit(inherited) } }
        try traced("ioctl.snap_create", name) {
            let result = btrfs_util_create_snapshot_fd2(source.number, parent.number, name, flags, nil, inherited)
            try check(result, "create snapshot \(name)")
        }
    }

    /// Unlinks a subvolume; its space comes back in the background. Succeeds if it is gone.
    ///
    /// Works on a full pool: the kernel takes what it needs from its reserve.
    static func delete(in parent: Descriptor, _ name: String) throws {
        try traced("ioctl.snap_destroy", name) { try deleteNow(in: parent, name) }
    }

    private static func deleteNow(in parent: Descriptor, _ name: String) throws {
        let result = btrfs_util_delete_subvolume_fd(parent.number, name, 0)
        let number = errno
        if result == BTRFS_UTIL_OK || number == ENOENT { return }
        // Subvolumes inside it, which nothing of ours makes, are deleted with it.
        guard number == ENOTEMPTY else { return try check(result, number, "delete subvolume \(name)") }
        let flags = Int32(BTRFS_UTIL_DELETE_SUBVOLUME_RECURSIVE)
        try check(btrfs_util_delete_subvolume_fd(parent.number, name, flags), "delete subvolume \(name)")
    }

    static func isSubvolume(_ descriptor: Descriptor) -> Bool {
        btrfs_util_is_subvolume_fd(descriptor.number) == BTRFS_UTIL_OK
    }

    static func isReadOnly(_ subvolume: Descriptor) throws -> Bool {
        var result = false
        try check(btrfs_util_get_subvolume_read_only_fd(subvolume.number, &result), "read flags of subvolume")
        return result
    }

    /// Commits a transaction, like ``snapshot(_:in:_:readOnly:)``.
    static func setReadOnly(_ subvolume: Descriptor) throws {
        try traced("ioctl.subvol_setflags") {
            try check(btrfs_util_set_subvolume_read_only_fd(subvolume.number, true), "make subvolume read-only")
        }
    }

    /// Ids grow with every subvolume made and are never used again.
    static func identifier(_ subvolume: Descriptor) throws -> UInt64 {
        var result: UInt64 = 0
        try check(btrfs_util_subvolume_id_fd(subvolume.number, &result), "read id of subvolume")
        return result
    }

    /// The commit after which something in a subvolume was last changed, as far as commits have been made.
    static func lastChange(_ subvolume: Descriptor) throws -> UInt64 { try information(subvolume).generation }

    /// The commit that made a subvolume.
    static func creation(_ subvolume: Descriptor) throws -> UInt64 { try information(subvolume).otransid }

    private static func information(_ subvolume: Descriptor) throws -> btrfs_util_subvolume_info {
        var result = btrfs_util_subvolume_info()
        try check(btrfs_util_subvolume_info_fd(subvolume.number, 0, &result), "read facts of subvolume")
        return result
    }

    /// The path of some subvolume that lies in this one, or nil: one search in the tree of roots, whatever its size.
    static func nestedSubvolume(_ subvolume: Descriptor) throws -> String? {
        var iterator: OpaquePointer?
        try check(
            btrfs_util_create_subvolume_iterator_fd(subvolume.number, 0, 0, &iterator), "look for nested subvolumes")
        defer { btrfs_util_destroy_subvolume_iterator(iterator) }
        var path: UnsafeMutablePointer<CChar>?
        let result = btrfs_util_subvolume_iterator_next(iterator, &path, nil)
        if result == BTRFS_UTIL_ERROR_STOP_ITERATION { return nil }
        try check(result, "look for nested subvolumes")
        defer { free(path) }
        return path.map { String(cString: $0) } ?? ""
    }

    /// Waits until what was done to the filesystem's structure is on stable storage; file contents are not flushed.
    static func commit(_ descriptor: Descriptor) throws {
        try traced("ioctl.sync") {
            var transaction: UInt64 = 0
            try check(btrfs_util_start_sync_fd(descriptor.number, &transaction), "start commit")
            try check(btrfs_util_wait_sync_fd(descriptor.number, transaction), "wait for commit")
        }
    }

    /// How many subvolumes were unlinked and still hold their space.
    static func deletedCount(_ descriptor: Descriptor) throws -> Int {
        var identifiers: UnsafeMutablePointer<UInt64>?
        var count = 0
        try check(
            btrfs_util_deleted_subvolumes_fd(descriptor.number, &identifiers, &count), "list deleted subvolumes")
        free(identifiers)
        return count
    }

    private static func check(_ result: btrfs_util_error, _ operation: @autoclosure () -> String) throws {
        try check(result, errno, operation())
    }

    private static func check(
        _ result: btrfs_util_error, _ number: Int32, _ operation: @autoclosure () -> String
    ) throws {
        if result == BTRFS_UTIL_OK { return }
        // Some failures, such as "not a subvolume", are not from the kernel and leave errno alone.
        throw SystemError(number == 0 ? EINVAL : number, operation())
    }
}
