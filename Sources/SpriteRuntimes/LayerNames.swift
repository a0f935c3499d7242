// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import FoundationEssentials
import GRDB
import Glibc
import SpriteSystem

/// Who knows the names of files in mounted layers.
package enum NamesLookup: String, Sendable, CaseIterable {
    /// The kernel if it can, else JuiceFS.
    case kernel
    case juicefs
}

/// Splits a layer in two for a mount: its names, which the kernel reads from an image itself, and the content of all files,
/// which JuiceFS serves as a few large ones.
///
/// With names at JuiceFS each file that is opened costs three requests to it, and a program that opens its library's
/// sources to see whether they changed opens hundreds. Made from the layer's metadata at each mount; objects stay what
/// they are, and a layer made for mounts with names at JuiceFS needs no change.
enum LayerNames {
    /// Whether this kernel mounts an image that lies there: since Linux 6.12, on file systems with a page cache.
    ///
    /// - Parameter image: Is made, and removed.
    static func isSupported(_ image: String) -> Bool {
        let target = "\(image).probe"
        defer {
            unlink(image)
            rmdir(target)
        }
        do {
            let root = ErofsImage.Node(mode: S_IFDIR | 0o700, owner: (0, 0), time: (0, 0))
            try makeFolder(target)
            try writeWhole(try ErofsImage(root: root, devices: []).bytes(), to: image)
            try mount(image, at: target, content: [])
            umount2(target, Int32(MNT_DETACH) | Int32(UMOUNT_NOFOLLOW))
            return true
        } catch {
            return false
        }
    }

    /// Blocks while JuiceFS opens the parts.
    ///
    /// - Parameter content: The parts, in their order, in a mount that is served.
    static func mount(_ image: String, at target: String, content: [String]) throws {
        let devices = content.map { strdup($0) }
        defer { for device in devices { free(device) } }
        let pointers = devices.map { UnsafePointer($0) }
        try checked(clinux_erofs_mount(image, target, pointers, Int32(pointers.count)), "mount \(image)")
    }

    /// The files of content in a mount of JuiceFS.
    static func content(folder: String, mount: String) throws -> [String] {
        guard let layout = try ContentLayout(file: layoutPath(folder)) else { return [] }
        return (0..<layout.parts).map { "\(mount)/\(ContentLayout.name($0))" }
    }

    /// - Parameters:
    ///   - metadata: Of the layer; is not changed.
    ///   - image: Where the names are to be written.
    ///   - folder: Of the mount; gets `meta.db` for a mount with nothing but content, and `layout`.
    ///   - store: Where the objects are.
    static func split(_ metadata: String, image: String, folder: String, store: StoreAddress) throws {
        let layer = try Layer(metadata)
        let (layout, parts) = try layer.arrange()
        let bytes = try ErofsImage(root: try layer.tree(layout), devices: parts.map(\.size)).bytes()
        try writeWhole(bytes, to: "\(image).new")
        // One that is still mounted keeps its file.
        try system("replace \(image)") { rename("\(image).new", image) }
        try layout.write(layoutPath(folder))
        try MetadataWriter.prepare(metadata, to: "\(folder)/meta.db", store: store)
        try keepContentOnly("\(folder)/meta.db", parts)
    }

    /// How much more than is asked for the kernel reads of files of a mount.
    ///
    /// - Parameter kib: 0 means page by page.
    static func setReadAhead(of mount: String, kib: Int = 128) throws {
        var facts = stat()
        try system("inspect \(mount)") { stat(mount, &facts) }
        // As the kernel packs both numbers for programs.
        let (major, minor) = (facts.st_dev >> 8 & 0xFFF, facts.st_dev & 0xFF | facts.st_dev >> 12 & 0xFFF00)
        try writeSmallFile("/sys/class/bdi/\(major):\(minor)/read_ahead_kb", "\(kib)\n")
    }

    static func layoutPath(_ folder: String) -> String { "\(folder)/layout" }

    fileprivate static func rounded(_ size: Int) -> Int {
        (size + ErofsImage.blockBytes - 1) / ErofsImage.blockBytes * ErofsImage.blockBytes
    }

    /// Makes of the metadata of a layer that of its content.
    private static func keepContentOnly(_ path: String, _ parts: [ContentPart]) throws {
        let database = try DatabaseQueue(path: path)
        try database.write { db in
            for table in ["edge", "chunk", "chunk_ref", "symlink", "xattr", "dir_stats"] {
                try db.execute(sql: "DELETE FROM jfs_\(table)")
            }
            try db.execute(sql: "DELETE FROM jfs_node WHERE inode > 1")
            for (number, part) in parts.enumerated() {
                let inode = ContentLayout.inode(number)
                try db.execute(
                    sql: """
                        INSERT INTO jfs_node
                            (inode, type, flags, mode, uid, gid, atime, mtime, ctime, nlink, length, rdev, parent)
                        VALUES (?, 1, 0, ?, 0, 0, 0, 0, 0, 1, ?, 0, 1)
                        """, arguments: [inode, 0o400, part.size])
                try db.execute(
                    sql: "INSERT INTO jfs_edge (parent, name, inode, type) VALUES (1, CAST(? AS BLOB), ?, 1)",
                    arguments: [ContentLayout.name(number), inode])
                for (index, record) in part.chunks {
                    try db.execute(
                        sql: "INSERT INTO jfs_chunk (inode, indx, slices) VALUES (?, ?, ?)",
                        arguments: [inode, index, Data(record)])
                }
            }
        }
        try database.vacuum()
        try database.close()
    }
}

/// A file of content: its size in whole blocks, and the pieces of each 64 MiB of it as JuiceFS writes them down.
private struct ContentPart {
    var size = 0
    var chunks: [Int: [UInt8]] = [:]

    mutating func append(_ piece: LayerIndex.Piece, at place: Int) {
        // Pieces end with 64 MiB of the file they are in.
        var (rest, place) = (piece, place)
        while rest.count > 0 {
            let (index, offset) = place.quotientAndRemainder(dividingBy: ObjectWriter.chunkBytes)
            let count = min(rest.count, ObjectWriter.chunkBytes - offset)
            chunks[index, default: []] +=
                LayerIndex.Piece(
                    offset: offset, slice: rest.slice, sliceBytes: rest.sliceBytes, start: rest.start, count: count
                ).record
            place += count
            rest.start += count
            rest.count -= count
        }
    }
}

/// The metadata of a layer, read in whole.
private struct Layer {
    private struct File {
        var node: ErofsImage.Node
        var kind: Int64
    }

    private var files: [Int64: File] = [:]
    private var children: [Int64: [(name: [UInt8], inode: Int64)]] = [:]
    private var pieces: [Int64: [LayerIndex.Piece]] = [:]

    init(_ metadata: String) throws {
        var configuration = Configuration()
        configuration.readonly = true
        let database = try DatabaseQueue(path: metadata, configuration: configuration)
        try database.read { db in
            let nodes = """
                SELECT inode, type, mode, uid, gid, mtime, mtimensec, length, rdev FROM jfs_node WHERE inode > 1
                """
            let rows = try Row.fetchCursor(db, sql: nodes)
            while let row = try rows.next() { files[try row.number(0)] = try Self.file(row) }
            let edges = try Row.fetchCursor(db, sql: "SELECT parent, name, inode FROM jfs_edge")
            while let row = try edges.next() {
                children[try row.number(0), default: []].append((LayerIndex.bytes(row, 1) ?? [], try row.number(2)))
            }
            let links = try Row.fetchCursor(db, sql: "SELECT inode, target FROM jfs_symlink")
            while let row = try links.next() { files[try row.number(0)]?.node.target = LayerIndex.bytes(row, 1) ?? [] }
            let attributes = try Row.fetchCursor(
                db, sql: "SELECT inode, name, value FROM jfs_xattr ORDER BY inode, name")
            while let row = try attributes.next() {
                let name = String(decoding: LayerIndex.bytes(row, 1) ?? [], as: UTF8.self)
                files[try row.number(0)]?.node.attributes.append((name, LayerIndex.bytes(row, 2) ?? []))
            }
            let chunks = try Row.fetchCursor(db, sql: "SELECT inode, indx, slices FROM jfs_chunk ORDER BY inode, indx")
            while let row = try chunks.next() {
                let (inode, index) = (try row.number(0), try row.number(1))
                guard (0..<Int64(ErofsImage.deviceBytesMax / ObjectWriter.chunkBytes)).contains(index) else {
                    throw SystemError(EFBIG, "read the metadata of part \(index) of a file")
                }
                for var piece in LayerIndex.Piece.all(in: LayerIndex.bytes(row, 2) ?? []) {
                    piece.offset += Int(index) * ObjectWriter.chunkBytes
                    pieces[inode, default: []].append(piece)
                }
            }
        }
        try database.close()
    }

    private static func file(_ row: Row) throws -> File {
        let (kind, mode, length) = (try row.number(1), try row.number(2), try row.number(7))
        let types: [Int64: mode_t] = [
            1: S_IFREG, 2: S_IFDIR, 3: S_IFLNK, 4: S_IFIFO, 5: S_IFBLK, 6: S_IFCHR, 7: S_IFSOCK,
        ]
        guard let type = types[kind], (0...Int64(ErofsImage.deviceBytesMax)).contains(length) else {
            throw SystemError(EINVAL, "read the metadata of a file of kind \(kind) with \(length) bytes")
        }
        // In microseconds, with what is less than one beside it.
        let (time, rest) = (try row.number(5), try row.number(6))
        let seconds = time.floored(by: 1_000_000)
        let nanoseconds = (time % 1_000_000 + 1_000_000) % 1_000_000 * 1000 + min(max(rest, 0), 999)
        let node = ErofsImage.Node(
            mode: type | mode_t(truncatingIfNeeded: mode & 0o7777),
            owner: (UInt32(truncatingIfNeeded: try row.number(3)), UInt32(truncatingIfNeeded: try row.number(4))),
            time: (seconds, UInt32(nanoseconds)))
        if kind == 1 { node.size = Int(length) }
        node.device = UInt32(truncatingIfNeeded: try row.number(8))
        return File(node: node, kind: kind)
    }

    /// - Returns: Where each file lies, and the files that hold them.
    func arrange() throws -> (layout: ContentLayout, parts: [ContentPart]) {
        var order: [UInt64: Int] = [:]
        var found: [(slice: Int, start: Int, inode: Int64, size: Int)] = []
        for (inode, file) in files.sorted(by: { $0.key < $1.key }) where file.node.size > 0 {
            // One without a piece reads as zeros.
            let first = pieces[inode]?.first
            let slice = first?.slice ?? 0
            let known = order[slice] ?? order.count
            order[slice] = known
            found.append((known, first?.start ?? 0, inode, file.node.size))
        }
        found.sort { ($0.slice, $0.start, $0.inode) < ($1.slice, $1.start, $1.inode) }
        let slicesPerPart = (order.count + ErofsImage.devicesMax - 1) / ErofsImage.devicesMax
        var entries: [ContentLayout.Entry] = []
        var parts: [ContentPart] = []
        for file in found {
            let part = file.slice / slicesPerPart
            if part == parts.count { parts.append(ContentPart()) }
            let start = parts[part].size
            entries.append(ContentLayout.Entry(inode: file.inode, part: part, start: start, size: file.size))
            for var piece in pieces[file.inode] ?? [] where piece.offset < file.size {
                piece.count = min(piece.count, file.size - piece.offset)
                parts[part].append(piece, at: start + piece.offset)
            }
            parts[part].size += LayerNames.rounded(file.size)
            guard parts[part].size <= ErofsImage.deviceBytesMax else {
                throw SystemError(EFBIG, "lay out the files of a layer")
            }
        }
        return (ContentLayout(entries), parts)
    }

    /// The layer's root, which is the only entry of its metadata's, with everything below it.
    func tree(_ layout: ContentLayout) throws -> ErofsImage.Node {
        guard let top = children[1]?.first?.inode, let root = files[top] else {
            throw SystemError(ENOENT, "find the root in the metadata of a layer")
        }
        for entry in layout.entries {
            files[entry.inode]?.node.content = (entry.part, entry.start / ErofsImage.blockBytes)
        }
        for (parent, names) in children where parent != 1 {
            guard let folder = files[parent], folder.kind == 2 else { continue }
            folder.node.children = names.compactMap { name, inode in files[inode].map { (name, $0.node) } }
                .sorted { $0.name.lexicographicallyPrecedes($1.name) }
        }
        return root.node
    }
}

extension Int64 {
    /// The quotient rounded down, also below 0.
    fileprivate func floored(by divisor: Int64) -> Int64 {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

extension Row {
    /// A whole number; a layer from elsewhere may hold anything. Nothing counts as 0.
    fileprivate func number(_ index: Int) throws -> Int64 {
        let value: DatabaseValue = self[index]
        switch value.storage {
        case .int64(let number): return number
        case .null: return 0
        default: throw SystemError(EINVAL, "read the metadata of a layer: \(value) where a number must be")
        }
    }
}
