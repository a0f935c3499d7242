// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

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

    /// Reads /proc/PID/net/tcp or tcp6; proc(5) describes it. Only what listens is returned.
    ///
    /// ```
    ///   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
    ///    0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 …
    /// ```
    package static func parse(_ table: String) -> [ListeningSocket] {
        var found: [ListeningSocket] = []
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            guard fields.count > 9, fields[3] == "0A", let inode = UInt64(fields[9]) else { continue }
            let parts = fields[1].split(separator: ":")
            guard parts.count == 2, let port = UInt16(parts[1], radix: 16), let address = text(parts[0]) else {
                continue
            }
            found.append(ListeningSocket(port: port, address: address, inode: inode))
            if found.count == Limits.listeningPortsMax { break }
        }
        return found
    }

    /// Each 32-bit word is printed as the machine's own number, so its bytes are turned around on this one.
    private static func text(_ hex: Substring) -> String? {
        guard hex.utf8.count == 8 || hex.utf8.count == 32 else { return nil }
        var bytes: [UInt8] = []
        var rest = hex
        while !rest.isEmpty {
            guard let word = UInt32(rest.prefix(8), radix: 16) else { return nil }
            withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
            rest = rest.dropFirst(8)
        }
        var buffer = [CChar](repeating: 0, count: 64)
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, bytes, &buffer, socklen_t(buffer.count)) != nil else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
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
    /// Everything that listens in the network namespace of a process.
    static func listening(_ process: Int32) throws -> [ListeningSocket] {
        try ["tcp", "tcp6"].flatMap { table in
            ListeningSocket.parse(try readSmallFile("/proc/\(process)/net/\(table)", bytesMax: 16 << 20))
        }
    }

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
