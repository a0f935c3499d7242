// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Changes modes (`chmod`) or owners (`chown`), of one file or of a tree. In a tree links are not followed.
struct AttributeChange {
    private enum Change {
        case mode(mode_t)
        case owner(uid_t, gid_t)
    }
    /// More paths than this are counted and not named.
    private static let namedMax = 1000

    private let path: String
    private let change: Change
    private let isRecursive: Bool

    init(_ request: FileRequest) throws {
        path = try request.path()
        isRecursive = request.has("recursive")
        if request.operation == "chmod" {
            guard let mode = try request.mode() else { throw FileFailure(EINVAL, path, "the mode is missing") }
            change = .mode(mode)
        } else {
            let user = try AttributeChange.number(request.options["uid"], in: "/etc/passwd", path)
            let group = try AttributeChange.number(request.options["gid"], in: "/etc/group", path)
            guard user != .max || group != .max else { throw FileFailure(EINVAL, path, "uid and gid are missing") }
            change = .owner(user, group)
        }
    }

    /// A number, or that of a name in the third field of a line; the largest number means no change.
    private static func number(_ text: String?, in file: String, _ path: String) throws -> UInt32 {
        guard let text, !text.isEmpty else { return .max }
        if let number = UInt32(text), number < .max { return number }
        let lines = (try? readSmallFile(file, bytesMax: 8 << 20)) ?? ""
        for line in lines.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 3, omittingEmptySubsequences: false)
            if fields.count > 2, fields[0] == text, let number = UInt32(fields[2]) { return number }
        }
        throw FileFailure(EINVAL, path, "invalid argument: \(file) has no '\(text.prefix(64))'")
    }

    func run(_ output: FileOutput) throws {
        var affected: [JSONText] = []
        var count: Int64 = 0
        func note(_ path: String, _ file: Int32) throws {
            count += 1
            guard affected.count < AttributeChange.namedMax else { return }
            let facts = try FileTree.facts(file, path)
            switch change {
            case .mode: affected.append(.object([("path", .text(path)), ("mode", .text(octal(facts.permissions)))]))
            case .owner:
                affected.append(
                    .object([
                        ("path", .text(path)), ("uid", .number(Int64(facts.st_uid))),
                        ("gid", .number(Int64(facts.st_gid))),
                    ]))
            }
        }
        let number = clinux_open_path(AT_FDCWD, path, 0)
        guard number >= 0 else { throw FileFailure(-number, path) }
        let file = Descriptor(owning: number)
        try walk(file, path, depth: 0, note)
        try output.line(.object([("affected", .list(affected)), ("count", .number(count))]))
    }

    private func walk(_ file: Descriptor, _ path: String, depth: Int, _ note: (String, Int32) throws -> Void) throws {
        guard depth < FileTree.depthMax else { throw FileFailure(ENAMETOOLONG, path) }
        let facts = try FileTree.facts(file.number, path)
        guard isRecursive, facts.isDirectory else {
            // A link below a tree that is changed: it has no mode, and what it leads to is not of the tree.
            if facts.isLink, case .mode = change { return }
            try apply(file, path)
            return try note(path, file.number)
        }
        // A directory that loses its owner's access is changed after what is in it.
        var comesLast = false
        if case .mode(let mode) = change { comesLast = mode & 0o500 != 0o500 }
        if !comesLast { try apply(file, path) }
        let directory = Descriptor(
            owning: try attempt(path) {
                openat(file.number, ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC)
            })
        if !comesLast { try note(path, file.number) }
        for name in try FileTree.names(directory, path) {
            let below = FileTree.join(path, name)
            let number = clinux_open_path(directory.number, name.bytes, O_NOFOLLOW)
            guard number >= 0 else {
                if number == -ENOENT { continue }
                throw FileFailure(-number, below)
            }
            try walk(Descriptor(owning: number), below, depth: depth + 1, note)
        }
        if comesLast {
            try apply(file, path)
            try note(path, file.number)
        }
    }

    /// Through the descriptor, so that it is the file that was looked at.
    private func apply(_ file: Descriptor, _ path: String) throws {
        switch change {
        case .mode(let mode): try attempt(path) { chmod("/proc/self/fd/\(file.number)", mode) }
        case .owner(let user, let group):
            let result = clinux_change_owner(file.number, user, group)
            if result < 0 { throw FileFailure(-result, path) }
        }
    }
}
