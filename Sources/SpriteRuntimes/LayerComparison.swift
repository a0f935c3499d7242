// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDB
package import SpriteDomain

/// One path that is not the same in two versions of a layer.
package struct LayerDifference: Hashable, Sendable, CustomStringConvertible {
    package var path: String
    /// `added`, `removed`, or what of it changed, such as `content, time`.
    package var change: String

    package var description: String { "\(path): \(change)" }
}

extension LayerInfo {
    /// True for a version made of the same recipe, base and files that did not become the same.
    package func isOtherVersion(of info: LayerInfo) -> Bool {
        name == info.name && version != info.version && recipeChecksum != nil && recipeChecksum == info.recipeChecksum
    }
}

extension LayerStore {
    /// Compares the metadata of two versions; content is compared by the names of its objects.
    package func differences(_ old: RuntimesVersion, _ new: RuntimesVersion) throws -> [LayerDifference] {
        let (before, after) = (try entries(old), try entries(new))
        var result: [LayerDifference] = []
        for path in Set(before.keys).union(after.keys).sorted() {
            switch (before[path], after[path]) {
            case (let left?, let right?):
                let change = left.change(to: right)
                if !change.isEmpty { result.append(LayerDifference(path: path, change: change)) }
            case (nil, _): result.append(LayerDifference(path: path, change: "added"))
            case (_, nil): result.append(LayerDifference(path: path, change: "removed"))
            }
        }
        return result
    }

    private func entries(_ id: RuntimesVersion) throws -> [String: LayerEntry] {
        _ = try info(id)
        var configuration = Configuration()
        configuration.readonly = true
        let database = try DatabaseQueue(path: "\(path(id))/meta.db", configuration: configuration)
        let found = try database.read(LayerEntry.all)
        try database.close()
        return found
    }
}

private struct LayerEntry: Equatable {
    var kind: Int64
    var mode: Int64
    var owner: [Int64]
    var time: [Int64]
    var length: Int64
    var target: [UInt8] = []
    /// Which slices of which objects.
    var content: [[UInt8]] = []
    var attributes: [String: [UInt8]] = [:]

    func change(to other: LayerEntry) -> String {
        var names: [String] = []
        if kind != other.kind { names.append("kind") }
        if mode != other.mode { names.append("mode") }
        if owner != other.owner { names.append("owner") }
        // Folders have no length of their own.
        if kind != Self.directory, length != other.length { names.append("size") }
        if target != other.target { names.append("target") }
        if content != other.content { names.append("content") }
        if time != other.time { names.append("time") }
        if attributes != other.attributes { names.append("attributes") }
        return names.joined(separator: ", ")
    }

    private static let directory: Int64 = 2

    static func all(_ db: Database) throws -> [String: LayerEntry] {
        var byInode: [Int64: LayerEntry] = [:]
        let nodes = "SELECT inode, type, mode, uid, gid, mtime, mtimensec, length FROM jfs_node"
        for row in try Row.fetchAll(db, sql: nodes) {
            byInode[row[0]] = LayerEntry(
                kind: row[1], mode: row[2], owner: [row[3], row[4]], time: [row[5], row[6]], length: row[7])
        }
        for row in try Row.fetchAll(db, sql: "SELECT inode, target FROM jfs_symlink") {
            byInode[row[0]]?.target = LayerIndex.bytes(row, 1) ?? []
        }
        for row in try Row.fetchAll(db, sql: "SELECT inode, slices FROM jfs_chunk ORDER BY inode, indx") {
            byInode[row[0]]?.content.append(LayerIndex.bytes(row, 1) ?? [])
        }
        for row in try Row.fetchAll(db, sql: "SELECT inode, name, value FROM jfs_xattr") {
            byInode[row[0]]?.attributes[row[1]] = LayerIndex.bytes(row, 2) ?? []
        }
        var children: [Int64: [(name: String, inode: Int64)]] = [:]
        for row in try Row.fetchAll(db, sql: "SELECT parent, name, inode FROM jfs_edge") {
            children[row[0], default: []].append(
                (String(decoding: LayerIndex.bytes(row, 1) ?? [], as: UTF8.self), row[2]))
        }
        // The layer's root is an entry of the file system's, which has number 1.
        var result: [String: LayerEntry] = [:]
        var waiting = (children[1] ?? []).map { (path: "/", inode: $0.inode) }
        while let (path, inode) = waiting.popLast() {
            result[path] = byInode[inode]
            let folder = path == "/" ? "/" : "\(path)/"
            for child in children[inode] ?? [] { waiting.append((folder + child.name, child.inode)) }
        }
        return result
    }
}
