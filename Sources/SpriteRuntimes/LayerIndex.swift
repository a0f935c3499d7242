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

    /// Which block to fetch for the part of a file that begins at a multiple of the block's size; nil beyond its end.
    func block(_ inode: Int64, _ number: Int) throws -> Block? {
        let perChunk = ObjectWriter.chunkBytes / ObjectWriter.blockBytes
        return try database.read { db in
            let record = try Row.fetchOne(
                db, sql: "SELECT slices FROM jfs_chunk WHERE inode = ? AND indx = ?",
                arguments: [inode, number / perChunk])
            guard let record, let bytes = Self.bytes(record, 0), bytes.count >= 24 else { return nil }
            // Big endian: place in the chunk, number, size, where in the slice, how much.
            let slice = bytes[4..<12].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let offset = bytes[16..<20].reduce(0) { $0 << 8 | Int($1) }
            let length = bytes[20..<24].reduce(0) { $0 << 8 | Int($1) }
            let place = number % perChunk * ObjectWriter.blockBytes
            guard place < length else { return nil }
            return Block(slice: slice, index: (offset + place) / ObjectWriter.blockBytes)
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
