// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Sends what is in a directory, or the one entry of what is none, as the JSON document that clients get.
struct FileListing {
    private let path: String
    private let isRecursive: Bool
    private let pattern: String?

    init(_ request: FileRequest) throws {
        path = try request.path()
        isRecursive = request.has("recursive")
        pattern = request.options["pattern"]
    }

    func run(_ output: FileOutput) throws {
        var facts = stat()
        // Links are followed here: a link to a directory is listed like the directory.
        try attempt(path) { stat(path, &facts) }
        let directory = facts.isDirectory ? try FileTree.open(path) : nil
        let names = try directory.map { try FileTree.names($0, path) } ?? []
        try output.beginBody(.object([]))
        try output.write(Array("{\"path\":".utf8) + JSONText.text(path).bytes + Array(",\"entries\":[".utf8))
        var count: Int64 = 0
        if let directory {
            try send(names, of: directory, path, depth: 0, &count, output)
        } else {
            try send(EntryName(FileTree.split(path).name), path, facts, &count, output)
        }
        try output.write(Array("],\"count\":\(count)}".utf8))
    }

    private func send(
        _ names: [EntryName], of directory: Descriptor, _ folder: String, depth: Int, _ count: inout Int64,
        _ output: FileOutput
    ) throws {
        for name in names {
            let path = FileTree.join(folder, name)
            // Gone since the directory was read, or in a directory that may be read but not searched.
            guard let facts = try? FileTree.facts(directory.number, name, path) else { continue }
            if matches(name) { try send(name, path, facts, &count, output) }
            guard isRecursive, facts.isDirectory, depth < FileTree.depthMax else { continue }
            guard let below = try? FileTree.open(directory.number, name, path),
                let names = try? FileTree.names(below, path)
            else { continue }
            try send(names, of: below, path, depth: depth + 1, &count, output)
        }
    }

    private func matches(_ name: EntryName) -> Bool {
        guard let pattern else { return true }
        return fnmatch(pattern, name.bytes, 0) == 0
    }

    private func send(
        _ name: EntryName, _ path: String, _ facts: stat, _ count: inout Int64, _ output: FileOutput
    ) throws {
        if count > 0 { try output.write([UInt8(ascii: ",")]) }
        count += 1
        try output.write(FileListing.entry(name.text, path, facts).bytes)
    }

    static func entry(_ name: String, _ path: String, _ facts: stat) -> JSONText {
        let type: String
        switch facts.kind {
        case S_IFREG: type = "file"
        case S_IFDIR: type = "directory"
        case S_IFLNK: type = "symlink"
        default: type = "other"
        }
        return .object([
            ("name", .text(name)), ("path", .text(path)), ("type", .text(type)),
            ("size", .number(Int64(facts.st_size))),
            ("mode", .text(octal(facts.permissions))), ("modTime", .text(timeText(facts.st_mtim))),
            ("isDir", .bool(facts.isDirectory)),
        ])
    }
}

/// RFC 3339 in UTC with six digits of fraction; what four digits of a year cannot say is brought near.
func timeText(_ time: timespec) -> String {
    var seconds = time_t(min(max(time.tv_sec, 0), 253_402_300_799))
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ number: Int, _ count: Int) -> String {
        let text = "\(number)"
        return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let date = [
        digits(Int(parts.tm_year) + 1900, 4), digits(Int(parts.tm_mon) + 1, 2), digits(Int(parts.tm_mday), 2),
    ].joined(separator: "-")
    let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { digits(Int($0), 2) }.joined(separator: ":")
    return "\(date)T\(clock).\(digits(time.tv_nsec / 1000, 6))Z"
}
