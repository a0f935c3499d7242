// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem

extension BtrfsPool {
    package func renewIdentity(
        _ sprite: SpriteID, base: BaseName, layer: String?
    ) async throws -> IdentityReport {
        let place = try await mountRoot(sprite, base: base, layer: layer)
        do {
            let report = try await blocking {
                try poolOperation("renew the identity of a fork") {
                    var identity = DiskIdentity(root: try openDirectory(place))
                    return try identity.renew()
                }
            }
            await unmountRoot(sprite)
            return report
        } catch {
            await unmountRoot(sprite)
            throw error
        }
    }
}

/// Finds what tells a machine from others in a root that nobody uses yet.
///
/// Paths are looked up as the sprite would, with its own symbolic links, and never lead out of its root. Only whole files
/// are replaced or removed; none is opened that is there.
private struct DiskIdentity {
    let root: Descriptor
    private var report = IdentityReport()

    init(root: Descriptor) { self.root = root }

    /// Files that only mean something while the process that made them runs; in a fork no process does.
    private static let stale = [
        "/var/run/*.pid", "/var/run/*/*.pid", "/var/lock/*", "/var/lib/mysql/*.pid", "/var/lib/redis/*.pid",
        "/var/lib/postgresql/*/*/postmaster.pid", "/root/*.pid", "/home/*/*.pid", "/home/*/*/*.pid",
        "/home/*/*/tmp/pids/*.pid", "/home/*/*/.git/index.lock", "/home/*/.config/*/SingletonLock",
        "/root/*/.git/index.lock",
    ]
    /// Looked at in one directory.
    private static let namesMax = 1000

    mutating func renew() throws -> IdentityReport {
        let identifier = (0..<16).map { _ in
            let byte = UInt8.random(in: 0...255)
            return (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
        for (directory, name) in [("/etc", "machine-id"), ("/var/lib/dbus", "machine-id")] {
            try replace(name, in: directory, with: identifier + "\n", mode: 0o444, minimumSize: 32)
        }
        for name in matches("ssh_host_*_key*", in: "/etc/ssh") {
            try remove(name, in: "/etc/ssh")
            report.needsHostKeys = true
        }
        for pattern in Self.stale { try removeMatches(of: pattern) }
        return report
    }

    /// Only a file that holds something is replaced: an empty one is filled at the first start.
    private mutating func replace(
        _ name: String, in directory: String, with text: String, mode: mode_t, minimumSize: UInt64
    ) throws {
        guard let folder = open(directory) else { return }
        var entry = clinux_entry()
        guard clinux_inspect(folder.number, name, &entry) == 0, mode_t(entry.mode) & S_IFMT == S_IFREG,
            entry.size >= minimumSize
        else { return }
        let fresh = ".\(name).\(SpriteID.random())"
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = Descriptor(
            owning: try system("make \(fresh)") { openat(folder.number, fresh, flags, 0o600) })
        let bytes = Array(text.utf8)
        guard write(file.number, bytes, bytes.count) == bytes.count else { throw SystemError(errno, "write \(name)") }
        try system("set owner of \(name)") { fchown(file.number, entry.uid, entry.gid) }
        try system("set mode of \(name)") { fchmod(file.number, mode) }
        try checked(clinux_rename(folder.number, fresh, folder.number, name, 0), "replace \(name)")
        report.renewed.append("\(directory)/\(name)")
    }

    private mutating func remove(_ name: String, in directory: String) throws {
        guard let folder = open(directory) else { return }
        var entry = clinux_entry()
        guard clinux_inspect(folder.number, name, &entry) == 0 else { return }
        let kind = mode_t(entry.mode) & S_IFMT
        guard kind == S_IFREG || kind == S_IFLNK else { return }
        try system("remove \(name)") { unlinkat(folder.number, name, 0) }
        report.removed.append("\(directory)/\(name)")
    }

    private mutating func removeMatches(of pattern: String) throws {
        var directories = [""]
        let parts = pattern.split(separator: "/").map(String.init)
        for part in parts.dropLast() {
            directories =
                part.contains("*")
                ? directories.flatMap { directory in
                    matches(part, in: directory.isEmpty ? "/" : directory).map { "\(directory)/\($0)" }
                } : directories.map { "\($0)/\(part)" }
            directories = Array(directories.prefix(Self.namesMax))
        }
        for directory in directories {
            for name in matches(parts[parts.count - 1], in: directory) { try remove(name, in: directory) }
        }
    }

    private func matches(_ pattern: String, in directory: String) -> [String] {
        guard pattern.contains("*") else { return [pattern] }
        guard let folder = open(directory), let names = try? sortedNames(in: folder) else { return [] }
        return names.prefix(Self.namesMax).compactMap { String(validating: $0, as: UTF8.self) }.filter {
            fnmatch(pattern, $0, FNM_PERIOD) == 0
        }
    }

    private func open(_ directory: String) -> Descriptor? {
        let opened = clinux_open_in_root(root.number, directory, O_RDONLY | O_DIRECTORY, 0)
        guard opened >= 0 else { return nil }
        return Descriptor(owning: opened)
    }
}
