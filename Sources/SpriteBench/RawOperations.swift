// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CBtrfs
import CLinux
import Glibc
import SpriteSystem

/// The kernel's own operations, on the daemon's own pool.
struct RawOperations: Sendable {
    let pool: String
    /// Where raw subvolumes and snapshots are put; the daemon does not look there.
    let directory: String

    init(pool: String) throws {
        self.pool = pool
        directory = "\(pool)/bench-\(getpid())"
        guard mkdir(directory, 0o700) == 0 else { throw SystemError(errno, "make \(directory)") }
    }

    /// The live disk of a sprite.
    func liveDisk(_ id: String) -> String { "\(pool)/sprites/\(id)/live" }

    func createSubvolume(_ name: String) throws {
        try check(btrfs_util_create_subvolume("\(directory)/\(name)", 0, nil, nil), "create subvolume \(name)")
    }

    /// BTRFS_IOC_SNAP_CREATE_V2 through libbtrfsutil, and nothing else.
    func snapshot(_ source: String, as name: String, readOnly: Bool = true) throws {
        let flags = readOnly ? Int32(BTRFS_UTIL_CREATE_SNAPSHOT_READ_ONLY) : 0
        try check(
            btrfs_util_create_snapshot(source, "\(directory)/\(name)", flags, nil, nil), "snapshot \(source) as \(name)"
        )
    }

    func delete(_ name: String) throws {
        try check(btrfs_util_delete_subvolume("\(directory)/\(name)", 0), "delete subvolume \(name)")
    }

    /// syncfs(2) of the pool.
    func synchronize() throws {
        let file = try Descriptor.open(directory, O_RDONLY | O_DIRECTORY)
        try checked(clinux_sync_filesystem(file.number), "syncfs \(directory)")
    }

    /// Deletes a file in a raw subvolume, if it is there.
    func remove(_ file: String) throws {
        if unlink("\(directory)/\(file)") != 0, errno != ENOENT { throw SystemError(errno, "delete \(file)") }
    }

    /// Writes `bytes` to a new file in a raw subvolume, without waiting for the disk.
    func write(_ bytes: [UInt8], to file: String) throws {
        let target = try Descriptor.open("\(directory)/\(file)", O_WRONLY | O_CREAT | O_TRUNC)
        try bytes.withUnsafeBytes { buffer in
            var written = 0
            while written < buffer.count {
                let rest = UnsafeRawBufferPointer(rebasing: buffer[written...])
                let count = Glibc.write(target.number, rest.baseAddress, min(rest.count, 1 << 20))
                guard count > 0 else { throw SystemError(errno, "write \(file)") }
                written += count
            }
        }
    }

    /// posix_spawn(3) of /bin/true and waitpid(2).
    func spawnTrue() throws {
        var pid: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("/bin/true"), nil]
        defer { free(arguments[0]) }
        let result = posix_spawn(&pid, "/bin/true", nil, nil, &arguments, environ)
        guard result == 0 else { throw SystemError(result, "posix_spawn /bin/true") }
        var status: Int32 = 0
        try system("waitpid") { waitpid(pid, &status, 0) }
    }

    func removeEverything() {
        for name in directoryNames(directory) {
            let path = "\(directory)/\(name)"
            if btrfs_util_delete_subvolume(path, 0) != BTRFS_UTIL_OK { unlink(path) }
        }
        rmdir(directory)
    }

    private func check(_ result: btrfs_util_error, _ operation: String) throws {
        guard result != BTRFS_UTIL_OK else { return }
        throw SystemError(errno, operation)
    }
}
