// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDB

/// Looks into a layer's metadata: which path has which number, and in which object a block lies.
struct LayerIndex {
    private let database: DatabaseQueue

    /// A block that JuiceFS fetches as a whole, by its slice and its place in it.
    struct Block: Hashable {
        var slice: UInt64
        var index: Int
    }

    init(_ metadata: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        database = try DatabaseQueue(path: metadata, configuration: configuration)
    }

    /// Whether any file has extended attributes.
    func hasAttributes() throws -> Bool {
        try database.read { try Bool.fetchOne($0, sql: "SELECT EXISTS (SELECT 1 FROM jfs_xattr)") ?? true }
    }

    /// The number of the file with this path below the layer's root; nil if there is none.
    func inode(_ path: String) throws -> Int64? {
        try database.read { db in
            // The layer's root is the only folder of the file system's, which has number 1.
            var inode: Int64? = try Int64.fetchOne(db, sql: "SELECT inode FROM jfs_edge WHERE parent = 1")
            for name in path.split(separator: "/") {
                guard let parent = inode else { return nil }
                inode = try Int64.fetchOne(
                    db, sql: "SELECT inode FROM jfs_edge WHERE parent = ? AND CAST(name AS TEXT) = ?",
                    arguments: [parent, String(name)])
            }
            return inode
        }
    }

    /// Bytes of a file; 0 if there is no such file.
    func size(_ inode: Int64) throws -> Int {
        try database.read { db in
            let sql = "SELECT length FROM jfs_node WHERE inode = ? AND type = 1"
            return max(0, try Int.fetchOne(db, sql: sql, arguments: [inode]) ?? 0)
        }
    }

    /// The blocks that hold parts of a file, each with a place in the file that lies in it.
    func blocks(_ inode: Int64, _ ranges: RangeSet<Int>) throws -> [(block: Block, offset: Int)] {
        let records = try database.read { db in
            try Row.fetchAll(db, sql: "SELECT indx, slices FROM jfs_chunk WHERE inode = ?", arguments: [inode])
                .map { (index: $0[0] as Int, bytes: Self.bytes($0, 1) ?? []) }
        }
        var result: [(block: Block, offset: Int)] = []
        for record in records {
            for piece in Piece.all(in: record.bytes) {
                let offset = record.index * ObjectWriter.chunkBytes + piece.offset
                for range in ranges.intersection(RangeSet(offset..<offset + piece.count)).ranges {
                    let (first, last) = (range.lowerBound - offset, range.upperBound - 1 - offset)
                    let size = ObjectWriter.blockBytes
                    for number in (piece.start + first) / size...(piece.start + last) / size {
                        let begin = max(first, number * size - piece.start)
                        result.append((Block(slice: piece.slice, index: number), offset + begin))
                    }
                }
            }
        }
        return result
    }

    /// A part of 64 MiB of a file, as JuiceFS writes it down.
    struct Piece {
        /// Where in those 64 MiB it begins.
        var offset: Int
        var slice: UInt64
        var sliceBytes: Int
        /// Where in the slice it begins.
        var start: Int
        var count: Int

        static let recordBytes = 24

        /// - Parameter record: The pieces of 64 MiB.
        static func all(in record: [UInt8]) -> [Piece] {
            stride(from: 0, through: record.count - recordBytes, by: recordBytes).map { Piece(record[$0...]) }
                .filter(\.isSound)
        }

        /// Neither 64 MiB of a file nor a slice have more.
        private var isSound: Bool {
            let all = ObjectWriter.chunkBytes
            return count > 0 && offset + count <= all && start + count <= all && sliceBytes <= all
        }

        /// - Parameter bytes: Big endian: place, number of the slice, its size, where in it, how much.
        private init(_ bytes: ArraySlice<UInt8>) {
            func number(_ range: Range<Int>) -> UInt64 {
                bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound]
                    .reduce(0) { $0 << 8 | UInt64($1) }
            }
            (offset, slice, sliceBytes) = (Int(number(0..<4)), number(4..<12), Int(number(12..<16)))
            (start, count) = (Int(number(16..<20)), Int(number(20..<24)))
        }

        init(offset: Int, slice: UInt64, sliceBytes: Int, start: Int, count: Int) {
            (self.offset, self.slice, self.sliceBytes) = (offset, slice, sliceBytes)
            (self.start, self.count) = (start, count)
        }

        var record: [UInt8] {
            var result: [UInt8] = []
            func put(_ number: some FixedWidthInteger) {
                withUnsafeBytes(of: number.bigEndian) { result += $0 }
            }
            put(UInt32(offset))
            put(slice)
            for number in [sliceBytes, start, count] { put(UInt32(number)) }
            return result
        }
    }

    /// Every file with content: its path and its size, by number.
    func files() throws -> [Int64: (path: String, size: Int64)] {
        try database.read { db in
            var children: [Int64: [(name: String, inode: Int64)]] = [:]
            for row in try Row.fetchAll(db, sql: "SELECT parent, name, inode FROM jfs_edge") {
                let name = String(decoding: Self.bytes(row, 1) ?? [], as: UTF8.self)
                children[row[0], default: []].append((name, row[2]))
            }
            var sizes: [Int64: Int64] = [:]
            for row in try Row.fetchAll(db, sql: "SELECT inode, length FROM jfs_node WHERE type = 1") {
                sizes[row[0]] = row[1]
            }
            var result: [Int64: (path: String, size: Int64)] = [:]
            var waiting = (children[1] ?? []).map { (path: "", inode: $0.inode) }
            while let (path, inode) = waiting.popLast() {
                if let size = sizes[inode], size > 0 {
                    // Of several names the one that packing knows the file by.
                    if let known = result[inode], known.path < path { continue }
                    result[inode] = (path, size)
                }
                for child in children[inode] ?? [] { waiting.append(("\(path)/\(child.name)", child.inode)) }
            }
            return result
        }
    }

    /// A column that is a blob, or text where JuiceFS wrote it so.
    static func bytes(_ row: Row, _ index: Int) -> [UInt8]? {
        let value: DatabaseValue = row[index]
        switch value.storage {
        case .blob(let data): return Array(data)
        case .string(let text): return Array(text.utf8)
        default: return nil
        }
    }
}
