// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDB
import Glibc
import SpriteDomain
import SpriteSystem

/// Writes a layer's metadata: first in the form that `juicefs load` reads, then as the SQLite file that it makes of it.
struct MetadataWriter {
    let tree: LayerTree
    let slices: [ObjectWriter.Slice]
    let name: String

    /// The same for every layer: objects are shared, and so is the cache on a host.
    private static let identity = "5f0c2d0e-7b0a-4c55-9e2b-7357d1746c01"

    /// The text depends on nothing but the layer's content.
    func writeDump(_ path: String) throws {
        let output = try Output(path)
        output.put(
            """
            {"Setting":{"Name":"store","UUID":"\(Self.identity)","Storage":"file","Bucket":"/","BlockSize":4096,\
            "Compression":"zstd","EncryptAlgo":"aes256gcm-rsa","TrashDays":0,"MetaVersion":1,\
            "MinClientVersion":"1.1.0-A","DirStats":true,"EnableACL":false},
            "Counters":{"usedSpace":0,"usedInodes":0,"nextInodes":2,"nextChunk":1,"nextSession":0,"nextTrash":0},
            "Sustained":[],"DelFiles":[],
            "FSTree":{"attr":{"inode":1,"type":"directory","mode":493,"uid":0,"gid":0,"atime":0,"mtime":0,"ctime":0,\
            "nlink":3,"length":0},"entries":{

            """)
        try entry(tree.root, output)
        output.put("}}}\n")
        try output.close()
    }

    private func entry(_ node: LayerTree.Node, _ output: Output) throws {
        let facts = node.facts
        let (kind, length) =
            switch node.kind {
            case .file: ("regular", UInt64(facts.st_size))
            case .directory: ("directory", UInt64(0))
            case .link: ("symlink", UInt64(node.target.utf8.count))
            case .device: ("chardev", UInt64(0))
            case .pipe: ("fifo", UInt64(0))
            }
        let time = "\(facts.st_mtim.tv_sec)"
        let fraction = facts.st_mtim.tv_nsec
        output.put(
            "\"\(escaped(node.name.utf8))\":{\"attr\":{\"inode\":\(node.inode),\"type\":\"\(kind)\","
                + "\"mode\":\(facts.st_mode & 0o7777),\"uid\":\(facts.st_uid),\"gid\":\(facts.st_gid),"
                + "\"atime\":\(time),\"mtime\":\(time),\"ctime\":\(time),\"atimensec\":\(fraction),"
                + "\"mtimensec\":\(fraction),\"ctimensec\":\(fraction),\"nlink\":1,\"length\":\(length)}")
        if node.kind == .link { output.put(",\"symlink\":\"\(escaped(node.target.utf8))\"") }
        if !node.attributes.isEmpty {
            let list = node.attributes.map {
                "{\"name\":\"\(escaped($0.name.utf8))\",\"value\":\"\(escaped($0.value))\"}"
            }
            output.put(",\"xattrs\":[\(list.joined(separator: ","))]")
        }
        if node.kind == .file, !node.pieces.isEmpty {
            output.put(",\"chunks\":[\(chunks(of: node).joined(separator: ","))]")
        }
        if node.kind == .directory {
            output.put(",\"entries\":{\n")
            for (index, child) in node.children.enumerated() {
                if index > 0 { output.put(",\n") }
                try entry(child, output)
            }
            output.put("}")
        }
        output.put("}")
        try output.check()
    }

    /// The pieces of each 64 MiB of a file; one that begins at 0 says nothing of its place, as JuiceFS does.
    private func chunks(of node: LayerTree.Node) -> [String] {
        var lists: [(index: Int, pieces: [String])] = []
        for piece in node.pieces {
            let index = piece.offset / ObjectWriter.chunkBytes
            let place = piece.offset % ObjectWriter.chunkBytes
            let slice = slices[piece.slice]
            if lists.last?.index != index { lists.append((index, [])) }
            lists[lists.count - 1].pieces.append(
                "{\"id\":\(slice.number)," + (place > 0 ? "\"pos\":\(place)," : "")
                    + "\"size\":\(slice.size),\"off\":\(piece.start),\"len\":\(piece.count)}")
        }
        return lists.map { "{\"index\":\($0.index),\"slices\":[\($0.pieces.joined(separator: ","))]}" }
    }

    /// The form that `juicefs load` understands: `%XX` for bytes that are no plain text.
    private func escaped(_ bytes: some Sequence<UInt8>) -> String {
        var result: [UInt8] = []
        for byte in bytes {
            if byte < 0x20 || byte >= 0x7F || byte == 0x25 || byte == 0x22 || byte == 0x5C {
                let digits = Array("0123456789ABCDEF".utf8)
                result += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            } else {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Makes the SQLite file, whole and without a journal beside it.
    static func load(_ dump: String, to path: String) throws {
        try runTool(try JuiceFS.program(), ["load", "sqlite3://\(path)", dump], environment: JuiceFS.environment())
        let database = try DatabaseQueue(path: path)
        try database.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA journal_mode = DELETE")
            try db.execute(sql: "VACUUM")
        }
        try database.close()
        chmod(path, 0o444)
    }

    /// A copy for one mount: JuiceFS changes the journal mode of what it opens, and the address is this host's.
    static func prepare(_ metadata: String, to path: String, store: StoreAddress) throws {
        try runTool("cp", ["--", metadata, path])
        chmod(path, 0o600)
        let volume = store.volume
        let database = try DatabaseQueue(path: path)
        try database.write { db in
            try db.execute(
                sql: """
                    UPDATE jfs_setting
                    SET value = json_set(value, '$.Name', ?, '$.Storage', ?, '$.Bucket', ?) WHERE name = 'format'
                    """,
                arguments: [volume.name, volume.storage, volume.bucket])
            guard db.changesCount == 1 else { throw SystemError(EINVAL, "set the address in \(path)") }
        }
        try database.close()
    }

    /// Makes of it a store that JuiceFS reads inside its own process, one for each mount.
    ///
    /// A question to SQLite costs JuiceFS ten times as much, and a first use asks a thousand.
    ///
    /// - Parameter folder: Of the mount; what an earlier mount left is replaced.
    static func index(_ metadata: String, in folder: String) throws {
        let (dump, index) = ("\(folder)/meta.dump", indexPath(folder))
        try runTool("rm", ["-rf", "--", dump, index])
        let (program, environment) = (try JuiceFS.program(), JuiceFS.environment())
        try runTool(program, ["dump", "--binary", "sqlite3://\(metadata)", dump], environment: environment)
        try runTool(program, ["load", "--binary", "badger://\(index)", dump], environment: environment)
        unlink(dump)
    }

    static func indexPath(_ folder: String) -> String { "\(folder)/index" }

    /// Buffered writing; a failure is kept and reported by the next check.
    private final class Output {
        private let file: Descriptor
        private let path: String
        private var buffer: [UInt8] = []
        private var failure: Int32 = 0

        init(_ path: String) throws {
            self.path = path
            file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
        }

        func put(_ text: String) {
            buffer.append(contentsOf: text.utf8)
            if buffer.count > 1 << 20 { flush() }
        }

        private func flush() {
            var done = 0
            while done < buffer.count, failure == 0 {
                let count = buffer.withUnsafeBytes {
                    write(file.number, $0.baseAddress.map { $0 + done }, $0.count - done)
                }
                if count < 0, errno != EINTR { failure = errno }
                done += max(0, count)
            }
            buffer.removeAll(keepingCapacity: true)
        }

        func check() throws { if failure != 0 { throw SystemError(failure, "write \(path)") } }

        func close() throws {
            flush()
            try check()
        }
    }
}
