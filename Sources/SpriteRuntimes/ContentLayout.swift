// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Where the content of each file of a layer lies in the files of a mount that has nothing but content.
///
/// Files follow each other as they lie in objects, so that what is fetched together lies together, each from a whole
/// block on. They are spread over several files of content since JuiceFS, once it could not read of an open file, reads
/// no more of that file until it is opened again, and the kernel has all of them open as long as the layer is mounted.
struct ContentLayout: Sendable {
    struct Entry: Sendable {
        /// In the layer's metadata.
        var inode: Int64
        /// Index of the file that has its content.
        var part: Int
        /// Where in that it begins, and its size, in bytes.
        var start: Int
        var size: Int
    }

    /// By part and start.
    let entries: [Entry]
    private let byInode: [Int64: Int]

    init(_ entries: [Entry]) {
        self.entries = entries
        byInode = Dictionary(entries.indices.map { (entries[$0].inode, $0) }, uniquingKeysWith: { first, _ in first })
    }

    var parts: Int { (entries.last?.part ?? -1) + 1 }

    /// The name of a part in the root of its mount.
    static func name(_ part: Int) -> String { "\(part)" }
    /// Its number there: 1 is the root's.
    static func inode(_ part: Int) -> Int64 { Int64(part) + 2 }
    private static func part(_ inode: Int64) -> Int { Int(max(inode, 1)) - 2 }

    subscript(_ inode: Int64) -> Entry? { byInode[inode].map { entries[$0] } }

    /// The file that a byte of a part belongs to.
    ///
    /// - Parameter inode: The part's.
    func file(in inode: Int64, at place: Int64) -> Entry? {
        let (part, place) = (Self.part(inode), Int(place))
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if (entries[middle].part, entries[middle].start) <= (part, place) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low > 0, entries[low - 1].part == part else { return nil }
        return place < entries[low - 1].start + entries[low - 1].size ? entries[low - 1] : nil
    }

    // MARK: As a file

    /// Four numbers of 64 bits for each entry, little endian.
    func write(_ path: String) throws {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(entries.count * 32)
        for entry in entries {
            for number in [entry.inode, Int64(entry.part), Int64(entry.start), Int64(entry.size)] {
                withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
            }
        }
        try writeWhole(bytes, to: path)
    }

    /// - Returns: Nil if there is no such file: then the mount has every file by its name.
    init?(file path: String) throws {
        guard access(path, F_OK) == 0 else { return nil }
        let file = try Descriptor.open(path, O_RDONLY)
        var facts = stat()
        try system("inspect \(path)") { fstat(file.number, &facts) }
        var bytes = [UInt8](repeating: 0, count: Int(facts.st_size))
        let count = read(file.number, &bytes, bytes.count)
        guard count == bytes.count, count.isMultiple(of: 32) else { throw SystemError(EIO, "read \(path)") }
        let numbers = bytes.withUnsafeBytes { buffer in
            (0..<count / 8).map { Int64(littleEndian: buffer.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
        }
        self.init(
            stride(from: 0, to: numbers.count, by: 4).map {
                Entry(
                    inode: numbers[$0], part: Int(numbers[$0 + 1]), start: Int(numbers[$0 + 2]),
                    size: Int(numbers[$0 + 3]))
            })
    }
}

/// Writes a file in one piece, over what was there.
func writeWhole(_ bytes: [UInt8], to path: String) throws {
    let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    var done = 0
    while done < bytes.count {
        let count = bytes[done...].withUnsafeBytes { Glibc.write(file.number, $0.baseAddress, $0.count) }
        guard count > 0 || errno == EINTR else { throw SystemError(errno, "write \(path)") }
        done += max(0, count)
    }
}
