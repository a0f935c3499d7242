// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// What JuiceFS does for the kernel, as it tells it to whoever reads the log in the root of its mount.
///
/// It notes nothing while nobody reads; what it did before is not told.
struct AccessLog: Sendable {
    enum Access: Hashable {
        case open(inode: Int64)
        case read(inode: Int64, offset: Int64, count: Int64)
    }

    private let file: Descriptor
    private var buffer = [UInt8](repeating: 0, count: bytesMax)
    private var rest: [UInt8] = []
    /// How much is asked for at once. JuiceFS answers when it has that much, or after a second: who wants to hear of a use
    /// as it begins asks for about a line, and for a few while there are more.
    private var wanted = bytesMin

    private static let bytesMin = 128
    private static let bytesMax = 1 << 10
    /// What it has already it gives in less.
    private static let patience: Duration = .microseconds(200)

    /// - Parameter mount: Where the file system is mounted, above the layer's root.
    init(mount: String) throws { file = try Descriptor.open("\(mount)/.accesslog", O_RDONLY) }

    /// Waits at most a second; nothing if nothing was done meanwhile.
    ///
    /// - Throws: ``SystemError`` once JuiceFS has ended.
    mutating func next() throws -> [Access] {
        var end: Int?
        while end == nil {
            let started = ContinuousClock.now
            let count = read(file.number, &buffer, wanted)
            let waited = ContinuousClock.now - started > Self.patience
            wanted = waited ? Self.bytesMin : min(wanted * 2, Self.bytesMax)
            guard count >= 0 else { throw SystemError(errno, "read the access log") }
            guard count > 0 else { throw SystemError(EPIPE, "read the access log") }
            rest += buffer[..<count]
            end = rest.lastIndex(of: 0x0A)
        }
        guard let end else { return [] }
        let lines = rest[..<end].split(separator: 0x0A)
        rest.removeSubrange(...end)
        return lines.compactMap(Self.access)
    }

    /// `2026.11.22 18:04:12.607137 [uid:0,gid:0,pid:1] read (209,4096,0,11): (932) - OK <0.000573>`.
    static func access(_ line: ArraySlice<UInt8>) -> Access? {
        guard let bracket = line.firstIndex(of: 0x5D) else { return nil }
        let words = line[bracket...].dropFirst(2)
        let isOpen = words.starts(with: "open (".utf8)
        guard isOpen || words.starts(with: "read (".utf8) else { return nil }
        let numbers = words.dropFirst(6).prefix { $0 != 0x29 }.split(separator: 0x2C).map {
            Int64(String(decoding: $0, as: UTF8.self))
        }
        if isOpen { return numbers.first.flatMap { $0 }.map { .open(inode: $0) } }
        guard numbers.count >= 3, let inode = numbers[0], let size = numbers[1], let offset = numbers[2] else {
            return nil
        }
        return .read(inode: inode, offset: offset, count: size)
    }
}
