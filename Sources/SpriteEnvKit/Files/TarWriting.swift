// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Sends what is below a directory as one tar archive. Sockets, pipes and devices are left out.
final class TarWriting {
    private let path: String
    private let output: FileOutput
    /// First names of files that have several.
    private var linked: [UInt64: [UInt8]] = [:]
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)

    init(_ request: FileRequest, _ output: FileOutput) throws {
        path = try request.path()
        self.output = output
    }

    func run() throws {
        let directory = try FileTree.open(path)
        let names = try FileTree.names(directory, path)
        try output.beginBody(.object([]))
        try send(names, directory, path, [], depth: 0)
        try output.write([UInt8](repeating: 0, count: 2 * TarHeader.blockBytes))
    }

    private func send(
        _ names: [EntryName], _ directory: Descriptor, _ folder: String, _ prefix: [UInt8], depth: Int
    ) throws {
        guard depth < FileTree.depthMax else { throw FileFailure(ENAMETOOLONG, folder) }
        for name in names {
            let path = FileTree.join(folder, name)
            do {
                try send(name, directory, path, prefix + name.raw, depth: depth)
            } catch let failure as FileFailure where failure.number == ENOENT && failure.path == path {
                continue  // Gone since the directory was read.
            }
        }
    }

    private func send(
        _ name: EntryName, _ directory: Descriptor, _ path: String, _ inside: [UInt8], depth: Int
    ) throws {
        var facts = try FileTree.facts(directory.number, name, path)
        switch facts.kind {
        case S_IFDIR:
            let below = try FileTree.open(directory.number, name, path)
            facts = try FileTree.facts(below.number, path)
            let prefix = inside + [UInt8(ascii: "/")]
            try output.write(header(prefix, "5", facts).blocks)
            try send(try FileTree.names(below, path), below, path, prefix, depth: depth + 1)
        case S_IFLNK:
            var target = [CChar](repeating: 0, count: Int(PATH_MAX))
            let count = try attempt(path) {
                Int32(readlinkat(directory.number, name.bytes, &target, target.count - 1))
            }
            var header = header(inside, "2", facts)
            header.link = target[..<Int(count)].map(UInt8.init(bitPattern:))
            try output.write(header.blocks)
        case S_IFREG:
            if facts.st_nlink > 1 {
                let key = UInt64(facts.st_ino) ^ UInt64(facts.st_dev) << 48
                if let first = linked[key] {
                    var header = header(inside, "1", facts)
                    header.link = first
                    return try output.write(header.blocks)
                }
                linked[key] = inside
            }
            try sendFile(name, directory, path, inside)
        default: return
        }
    }

    private func sendFile(_ name: EntryName, _ directory: Descriptor, _ path: String, _ inside: [UInt8]) throws {
        let flags = O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC
        let file = Descriptor(owning: try attempt(path) { openat(directory.number, name.bytes, flags) })
        let facts = try FileTree.facts(file.number, path)
        guard facts.isRegular else { return }
        var header = header(inside, "0", facts)
        header.size = Int64(facts.st_size)
        try output.write(header.blocks)
        var rest = header.size
        while rest > 0 {
            let count = read(file.number, &buffer, Int(min(Int64(buffer.count), rest)))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileFailure(errno, "\(path): while it was read") }
            if count == 0 {
                // It became shorter: the size in the header has to be kept.
                try output.write([UInt8](repeating: 0, count: Int(min(rest, Int64(buffer.count)))))
                rest -= min(rest, Int64(buffer.count))
            } else {
                try output.write(buffer[..<count])
                rest -= Int64(count)
            }
        }
        try output.write(TarHeader.padding(header.size))
    }

    private func header(_ name: [UInt8], _ type: Character, _ facts: stat) -> TarHeader {
        var header = TarHeader()
        header.name = name
        header.type = type.asciiValue ?? 0
        header.mode = facts.permissions
        header.owner = facts.st_uid
        header.group = facts.st_gid
        header.time = Int64(facts.st_mtim.tv_sec)
        return header
    }
}
