// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// Every name on the host that belongs to one data directory, so that several daemons never touch each other.
struct HostNames: Sendable {
    /// The data directory's real path.
    let dataDirectory: String
    /// Eight hexadecimal digits derived from that path.
    let tag: String

    /// Makes the directory if needed. Searchable, not readable, by others: the OCI runtime passes through it as the
    /// root of a sprite. What is secret in it has modes of its own.
    init(dataDirectory path: String) throws {
        var whole = ""
        for part in path.split(separator: "/", omittingEmptySubsequences: true) {
            whole += (whole.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            if mkdir(whole, 0o711) != 0, errno != EEXIST {
                throw SpriteError(
                    .invalidRequest, "cannot use data directory \(path): \(errnoText(errno)) at \(whole)")
            }
        }
        guard let resolved = realpath(path, nil) else {
            throw SpriteError(.invalidRequest, "cannot use data directory \(path): \(errnoText(errno))")
        }
        defer { free(resolved) }
        dataDirectory = String(cString: resolved)
        let digits = String(UInt32(truncatingIfNeeded: fnv1a(dataDirectory)), radix: 16)
        tag = String(repeating: "0", count: 8 - digits.utf8.count) + digits
    }

    var runDirectory: String { "/run/sprited/\(tag)" }
    /// Where sessions' output lies: in memory, and there after a restart of the daemon.
    ///
    /// /run is a tmpfs wherever systemd runs; elsewhere /dev/shm is one. On a disk, output would cost its bandwidth.
    var sessionDirectory: String {
        let isMemory = { (path: String) in clinux_filesystem_type(path) == 0x0102_1994 }
        return isMemory("/run") || !isMemory("/dev/shm") ? runDirectory : "/dev/shm/sprited-\(tag)"
    }
    /// Holds the URL that the daemon serves.
    var addressPath: String { "\(runDirectory)/address" }
    var registryPath: String { "\(dataDirectory)/registry.db" }
    var journalPath: String { "\(dataDirectory)/journal.db" }
    var tokenPath: String { "\(dataDirectory)/token" }
    var tokensPath: String { "\(dataDirectory)/tokens" }
    var lockPath: String { "\(dataDirectory)/lock" }
}

/// FNV-1a, folded to 32 bits: names must differ between directories of one host, not resist an adversary.
private func fnv1a(_ text: String) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return hash ^ (hash >> 32)
}
