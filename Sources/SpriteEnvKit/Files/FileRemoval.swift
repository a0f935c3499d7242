// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Deletes files and trees.
enum FileRemoval {
    static func run(_ request: FileRequest, _ output: FileOutput) throws {
        let path = try request.path()
        let count = try remove(path, recursive: request.has("recursive"))
        try output.line(.object([("deleted", .list([.text(path)])), ("count", .number(count))]))
    }

    /// Returns how many files and directories went.
    static func remove(_ path: String, recursive: Bool) throws -> Int64 {
        let (directory, name) = try FileTree.openParent(path)
        guard try FileTree.facts(directory.number, name, path).isDirectory else {
            try attempt(path) { unlinkat(directory.number, name.bytes, 0) }
            return 1
        }
        guard recursive else {
            try attempt(path) { unlinkat(directory.number, name.bytes, AT_REMOVEDIR) }
            return 1
        }
        var count: Int64 = 0
        try removeTree(directory.number, name, path, depth: 0, &count)
        return count
    }

    /// A directory that is swapped for a link meanwhile is not entered: the link itself goes.
    private static func removeTree(
        _ parent: Int32, _ name: EntryName, _ path: String, depth: Int, _ count: inout Int64
    ) throws {
        guard depth < FileTree.depthMax else { throw FileFailure(ENAMETOOLONG, path) }
        // Whoever adds files faster than they are removed keeps the directory.
        for round in 0..<3 {
            let directory = try FileTree.open(parent, name, path)
            for below in try FileTree.names(directory, path) {
                let pathBelow = FileTree.join(path, below)
                if !below.isDirectory {
                    if unlinkat(directory.number, below.bytes, 0) == 0 {
                        count += 1
                        continue
                    }
                    if errno == ENOENT { continue }
                    guard errno == EISDIR || errno == EPERM else { throw FileFailure(errno, pathBelow) }
                }
                do {
                    try removeTree(directory.number, below, pathBelow, depth: depth + 1, &count)
                } catch let failure as FileFailure where failure.number == ENOTDIR || failure.number == ELOOP {
                    try attempt(pathBelow) { unlinkat(directory.number, below.bytes, 0) }
                    count += 1
                } catch let failure as FileFailure where failure.number == ENOENT {
                    continue
                }
            }
            if unlinkat(parent, name.bytes, AT_REMOVEDIR) == 0 { break }
            guard errno == ENOTEMPTY, round < 2 else { throw FileFailure(errno, path) }
        }
        count += 1
    }
}
