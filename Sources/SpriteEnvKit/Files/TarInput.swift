// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Where the entries of an archive go: directories below one root, opened step by step.
struct TarPlace {
    private let root: Descriptor
    private let path: String
    /// The last directory: most entries are in the same as the one before.
    private var last: (name: [[CChar]], directory: Descriptor)?

    init(root: Descriptor, path: String) {
        self.root = root
        self.path = path
    }

    /// Splits a name; slashes at the front and `.` mean nothing.
    static func components(_ name: [UInt8], _ path: String) throws -> [EntryName] {
        let parts = name.split(separator: UInt8(ascii: "/")).filter { !$0.elementsEqual([UInt8(ascii: ".")]) }
        guard parts.count <= FileTree.depthMax else { throw FileFailure(ENAMETOOLONG, path) }
        return try parts.map { part in
            guard !part.elementsEqual("..".utf8), !part.contains(0) else {
                let shown = String(decoding: name.prefix(200), as: UTF8.self)
                throw FileFailure(EINVAL, path, "the archive has a name that leads out of it: '\(shown)'")
            }
            return EntryName(part.map { CChar(bitPattern: $0) } + [0])
        }
    }

    /// The directory an entry goes into, made if it is missing, and the entry's own name.
    mutating func open(_ name: [EntryName]) throws -> (Descriptor, EntryName) {
        guard let last = name.last else { throw FileFailure(EISDIR, path) }
        return (try directory(Array(name.dropLast())), last)
    }

    /// Opens a directory below the root; what is missing is made.
    mutating func directory(_ name: [EntryName]) throws -> Descriptor {
        let key = name.map(\.bytes)
        if let last, last.name == key { return last.directory }
        var directory = root
        for part in name {
            let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
            var number = openat(directory.number, part.bytes, flags)
            if number < 0, errno == ENOENT {
                if mkdirat(directory.number, part.bytes, 0o777) < 0, errno != EEXIST {
                    throw FileFailure(errno, FileTree.join(path, part))
                }
                number = openat(directory.number, part.bytes, flags)
            }
            guard number >= 0 else { throw FileFailure(errno, FileTree.join(path, part)) }
            directory = Descriptor(owning: number)
        }
        last = (key, directory)
        return directory
    }
}

/// An archive as it comes in.
struct TarInput {
    private let input = FileInput()
    private let path: String
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)
    private var start = 0
    private var end = 0

    init(path: String) { self.path = path }

    /// One block; nil at the end.
    mutating func block() throws -> [UInt8]? {
        var block: [UInt8] = []
        while block.count < TarHeader.blockBytes {
            guard try fill() else {
                if block.isEmpty { return nil }
                throw FileFailure(EINVAL, path, "the archive ends early")
            }
            let count = min(TarHeader.blockBytes - block.count, end - start)
            block += buffer[start..<(start + count)]
            start += count
        }
        return block
    }

    /// Hands so many bytes over piece by piece and skips what fills up their last block.
    mutating func take(_ size: Int64, _ use: (ArraySlice<UInt8>) throws -> Void) throws {
        var rest = size
        while rest > 0 {
            guard try fill() else { throw FileFailure(EINVAL, path, "the archive ends early") }
            let count = Int(min(rest, Int64(end - start)))
            try use(buffer[start..<(start + count)])
            start += count
            rest -= Int64(count)
        }
        var padding = Int((512 - size % 512) % 512)
        while padding > 0 {
            guard try fill() else { throw FileFailure(EINVAL, path, "the archive ends early") }
            let count = min(padding, end - start)
            start += count
            padding -= count
        }
    }

    mutating func skip(_ size: Int64) throws { try take(size) { _ in } }

    /// Reads the rest away: archives are filled up with zeros.
    mutating func drain() throws {
        while try fill() { start = end }
    }

    /// Whether there is something to take.
    private mutating func fill() throws -> Bool {
        guard start == end else { return true }
        start = 0
        end = try buffer.withUnsafeMutableBytes { [input] in try input.read($0) }
        return end > 0
    }
}
