// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Copies and renames. The destination is the new name itself, never a directory to put it into.
struct FileCopying {
    /// Keeps modes to the bit, times and, as root, owners.
    let preserves: Bool
    /// Where the copy begins, so that a copy into itself ends.
    private var root: (device: UInt64, inode: UInt64)?
    private var bytes: Int64 = 0
    private var count: Int64 = 0

    static func rename(_ request: FileRequest, _ output: FileOutput) throws {
        let (source, target) = (try request.path(0), try request.path(1))
        let from = try FileTree.openParent(source)
        _ = try FileTree.facts(from.directory.number, from.name, source)
        let to = try FileTree.openParent(target)
        if renameat(from.directory.number, from.name.bytes, to.directory.number, to.name.bytes) < 0 {
            let number = errno
            guard number == EXDEV else {
                throw FileFailure(number, [EEXIST, ENOTEMPTY].contains(number) ? target : source)
            }
            // Between file systems, as mv(1) does it; what the copy would be merged with stays.
            var facts = stat()
            if lstat(target, &facts) == 0, facts.isDirectory { throw FileFailure(EEXIST, target) }
            var copying = FileCopying(preserves: true)
            try copying.copy(source, target, recursive: true, followsLink: false)
            _ = try FileRemoval.remove(source, recursive: true)
        }
        try output.line(.object([("source", .text(source)), ("dest", .text(target))]))
    }

    static func copy(_ request: FileRequest, _ output: FileOutput) throws {
        let (source, target) = (try request.path(0), try request.path(1))
        var copying = FileCopying(preserves: request.has("preserve"))
        try copying.copy(source, target, recursive: request.has("recursive"), followsLink: true)
        try output.line(
            .object([
                ("copied", .list([.object([("source", .text(source)), ("dest", .text(target))])])),
                ("count", .number(copying.count)), ("totalBytes", .number(copying.bytes)),
            ]))
    }

    private init(preserves: Bool) { self.preserves = preserves }

    private mutating func copy(_ source: String, _ target: String, recursive: Bool, followsLink: Bool) throws {
        var facts = stat()
        try attempt(source) { followsLink ? stat(source, &facts) : lstat(source, &facts) }
        let place = try FileTree.openParent(facts.isRegular ? try FileWriting.resolveLinks(target) : target)
        if facts.isRegular {
            let (file, facts) = try FileReading.open(source)
            return try copyFile(file, facts, to: place.directory, place.name, target)
        }
        if facts.isLink {
            let from = try FileTree.openParent(source)
            return try copyLink(from.directory, from.name, to: place.directory, place.name, target)
        }
        guard facts.isDirectory else { throw FileFailure(EINVAL, source, "invalid argument: not a regular file") }
        guard recursive else { throw FileFailure(EISDIR, source) }
        let directory = try FileTree.open(source)
        facts = try FileTree.facts(directory.number, source)
        guard try !FileCopying.isInside(place.directory, facts, target) else {
            throw FileFailure(EINVAL, target, "invalid argument: the copy would be inside of what is copied")
        }
        try copyTree(directory, facts, source, to: place.directory, place.name, target, depth: 0)
    }

    /// Whether a directory is another one or below it.
    private static func isInside(_ directory: Descriptor, _ other: stat, _ path: String) throws -> Bool {
        var directory = directory
        for _ in 0..<FileTree.depthMax {
            let facts = try FileTree.facts(directory.number, path)
            if facts.st_dev == other.st_dev, facts.st_ino == other.st_ino { return true }
            let number = clinux_open_path(directory.number, "..", O_DIRECTORY)
            guard number >= 0 else { return false }
            directory = Descriptor(owning: number)
            let above = try FileTree.facts(number, path)
            if above.st_dev == facts.st_dev, above.st_ino == facts.st_ino { return false }
        }
        return true
    }

    private mutating func copyTree(
        _ source: Descriptor, _ facts: stat, _ sourcePath: String, to parent: Descriptor, _ name: EntryName,
        _ path: String, depth: Int
    ) throws {
        guard depth < FileTree.depthMax else { throw FileFailure(ENAMETOOLONG, path) }
        let isNew = mkdirat(parent.number, name.bytes, 0o700 | facts.permissions) == 0
        if !isNew, errno != EEXIST { throw FileFailure(errno, path) }
        let target = try FileTree.open(parent.number, name, path)
        let made = try FileTree.facts(target.number, path)
        if depth == 0 { root = (UInt64(made.st_dev), UInt64(made.st_ino)) }
        for below in try FileTree.names(source, sourcePath) {
            let (from, to) = (FileTree.join(sourcePath, below), FileTree.join(path, below))
            let facts = try FileTree.facts(source.number, below, from)
            switch facts.kind {
            case S_IFREG:
                let flags = O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC
                let file = Descriptor(owning: try attempt(from) { openat(source.number, below.bytes, flags) })
                let facts = try FileTree.facts(file.number, from)
                try FileReading.check(facts, from)
                try copyFile(file, facts, to: target, below, to)
            case S_IFDIR:
                if let root, root == (UInt64(facts.st_dev), UInt64(facts.st_ino)) { continue }
                let directory = try FileTree.open(source.number, below, from)
                try copyTree(directory, facts, from, to: target, below, to, depth: depth + 1)
            case S_IFLNK:
                try copyLink(source, below, to: target, below, to)
            default:
                continue  // Pipes, sockets and devices are no content.
            }
        }
        count += 1
        if preserves {
            keepAttributes(facts, target.number)
            _ = fchmod(target.number, facts.permissions)
        } else if isNew {
            _ = fchmod(target.number, facts.permissions & 0o777 & ~0o022)
        }
    }

    private mutating func copyFile(
        _ source: Descriptor, _ facts: stat, to directory: Descriptor, _ name: EntryName, _ path: String
    ) throws {
        let existing = try FileWriting.existing(directory, name, path)
        if let existing, existing.st_dev == facts.st_dev, existing.st_ino == facts.st_ino {
            throw FileFailure(EINVAL, path, "invalid argument: source and destination are the same file")
        }
        var copied: Int64 = 0
        let mode = preserves ? facts.permissions : facts.permissions & 0o777 & ~0o022
        try FileWriting.replace(directory, name, path, existing: preserves ? nil : existing, mode: mode) { file in
            copied = try FileTree.copyBytes(source.number, file, path)
            if preserves { keepAttributes(facts, file) }
        }
        bytes += copied
        count += 1
    }

    private mutating func copyLink(
        _ source: Descriptor, _ name: EntryName, to directory: Descriptor, _ newName: EntryName, _ path: String
    ) throws {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        try attempt(path) { Int32(readlinkat(source.number, name.bytes, &buffer, buffer.count - 1)) }
        if symlinkat(buffer, directory.number, newName.bytes) < 0 {
            guard errno == EEXIST, unlinkat(directory.number, newName.bytes, 0) == 0 else {
                throw FileFailure(errno, path)
            }
            try attempt(path) { symlinkat(buffer, directory.number, newName.bytes) }
        }
        count += 1
    }

    private func keepAttributes(_ facts: stat, _ file: Int32) {
        if geteuid() == 0 { _ = fchown(file, facts.st_uid, facts.st_gid) }
        let times = [facts.st_atim, facts.st_mtim]
        _ = futimens(file, times)
    }
}
