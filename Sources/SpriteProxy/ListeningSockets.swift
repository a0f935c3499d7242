// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
package import SpriteSystem

/// A TCP socket that listens in a sprite.
package struct ListeningSocket: Sendable, Hashable {
    package var port: UInt16
    package var address: String
    /// The kernel's number of the socket.
    package var inode: UInt64

    package init(port: UInt16, address: String, inode: UInt64) {
        self.port = port
        self.address = address
        self.inode = inode
    }

    init?(_ socket: clinux_listening_socket) {
        var buffer = [CChar](repeating: 0, count: 64)
        let isText = withUnsafeBytes(of: socket.address) { bytes in
            inet_ntop(socket.ipv6 ? AF_INET6 : AF_INET, bytes.baseAddress, &buffer, socklen_t(buffer.count)) != nil
        }
        guard isText else { return nil }
        let address = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        self.init(port: socket.port, address: address, inode: socket.inode)
    }

    /// Everything that listens in a network namespace, by port.
    package static func all(in namespace: Descriptor) throws -> [ListeningSocket] {
        var found = [clinux_listening_socket](repeating: clinux_listening_socket(), count: Limits.listeningPortsMax)
        let count = clinux_listening_in(namespace.number, &found, Int32(found.count))
        try checked(count, "list listening sockets")
        return found.prefix(Int(count)).compactMap { ListeningSocket($0) }
            .sorted { ($0.port, $0.inode) < ($1.port, $1.inode) }
    }
}

/// Who has a listening socket open, with the numbers the sprite itself sees.
package struct SocketOwner: Sendable, Hashable {
    package var process: Int32
    /// The first process of its terminal or command, which every descendant carries unless it leaves on purpose.
    package var session: Int32
}

/// Looks at a sprite from outside, through /proc.
enum SpriteProcesses {
    /// Finds the owners of sockets among the processes of the sprite that `process` is the first of.
    ///
    /// Walks the descriptors of each, which takes milliseconds, so it is done only for sockets that are new.
    static func owners(of inodes: Set<UInt64>, below process: Int32) -> [UInt64: SocketOwner] {
        guard let namespace = link("/proc/\(process)/ns/pid") else { return [:] }
        var owners: [UInt64: SocketOwner] = [:]
        for number in names(in: "/proc").compactMap({ Int32($0) }) where owners.count < inodes.count {
            guard link("/proc/\(number)/ns/pid") == namespace else { continue }
            let wanted = names(in: "/proc/\(number)/fd").compactMap { name -> UInt64? in
                guard let target = link("/proc/\(number)/fd/\(name)"), target.hasPrefix("socket:[") else { return nil }
                return UInt64(target.dropFirst(8).dropLast())
            }.filter { inodes.contains($0) && owners[$0] == nil }
            guard !wanted.isEmpty, let owner = innerNumbers(number) else { continue }
            for inode in wanted { owners[inode] = owner }
        }
        return owners
    }

    /// The last number of each line is that of the innermost namespace.
    private static func innerNumbers(_ process: Int32) -> SocketOwner? {
        guard let status = try? readSmallFile("/proc/\(process)/status") else { return nil }
        func last(_ key: String) -> Int32? {
            status.split(separator: "\n").first { $0.hasPrefix(key) }?
                .split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap { Int32($0) }
        }
        guard let process = last("NSpid:"), let session = last("NSsid:") else { return nil }
        return SocketOwner(process: process, session: session)
    }

    private static func link(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 256)
        let count = readlink(path, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func names(in folder: String) -> [String] {
        guard let listing = opendir(folder) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
