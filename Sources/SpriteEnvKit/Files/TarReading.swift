// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Unpacks a tar archive from standard input below a directory.
///
/// Nothing is written outside of it: names with `..` are refused, and no link on the way is followed.
struct TarReading {
    private static let longNameBytesMax = 1 << 20

    private let path: String
    private let makesParents: Bool
    private let isRoot = geteuid() == 0

    init(_ request: FileRequest) throws {
        path = try request.path()
        makesParents = request.has("parents")
    }

    func run(_ output: FileOutput) throws {
        if makesParents { try FileTree.makeDirectories(path) }
        var place = TarPlace(root: try FileTree.open(path), path: path)
        var input = TarInput(path: path)
        var count: Int64 = 0
        var bytes: Int64 = 0
        /// Directories get mode and time when nothing comes into them any more.
        var directories: [([UInt8], TarHeader)] = []
        while let header = try nextHeader(&input) {
            let name = try TarPlace.components(header.name, path)
            switch header.type {
            case UInt8(ascii: "0"), 0, UInt8(ascii: "7"):
                if header.name.last == UInt8(ascii: "/") {
                    try makeDirectory(name, header, &place, &directories)
                } else {
                    try writeFile(name, header, &place, &input)
                    bytes += header.size
                }
            case UInt8(ascii: "5"):
                try makeDirectory(name, header, &place, &directories)
                try input.skip(header.size)
            case UInt8(ascii: "2"):
                let (folder, last) = try place.open(name)
                let target = header.link.map { CChar(bitPattern: $0) } + [0]
                try replace(folder, last, header) { symlinkat(target, folder.number, last.bytes) }
                try setOwner(folder, last, header)
                try input.skip(header.size)
            case UInt8(ascii: "1"):
                let (folder, last) = try place.open(name)
                var other = place
                let (source, sourceName) = try other.open(try TarPlace.components(header.link, path))
                try replace(folder, last, header) {
                    linkat(source.number, sourceName.bytes, folder.number, last.bytes, 0)
                }
                try input.skip(header.size)
            case UInt8(ascii: "S"): throw FileFailure(ENOTSUP, path, "sparse entries of GNU tar are not supported")
            default:
                try input.skip(header.size)  // Devices and pipes, and what others may have invented.
                continue
            }
            count += 1
        }
        try input.drain()
        for (name, header) in directories.reversed() { finish(try TarPlace.components(name, path), header, &place) }
        try output.line(
            .object([("path", .text(path)), ("count", .number(count)), ("totalBytes", .number(bytes))]))
    }

    /// The next header with what pax and GNU entries before it say; nil at the end.
    private func nextHeader(_ input: inout TarInput) throws -> TarHeader? {
        var name: [UInt8]?
        var link: [UInt8]?
        var size: Int64?
        while true {
            guard let block = try input.block() else { throw FileFailure(EINVAL, path, "the archive ends early") }
            if block.allSatisfy({ $0 == 0 }) { return nil }
            guard var header = TarHeader(block) else { throw FileFailure(EINVAL, path, "this is not a tar archive") }
            switch header.type {
            case UInt8(ascii: "x"):
                for (key, value) in TarReading.records(try longText(header, &input)) {
                    switch key {
                    case "path": name = value
                    case "linkpath": link = value
                    case "size": size = Int64(String(decoding: value, as: UTF8.self)).flatMap { $0 >= 0 ? $0 : nil }
                    default: break
                    }
                }
            case UInt8(ascii: "L"): name = TarHeader.text(try longText(header, &input)[...])
            case UInt8(ascii: "K"): link = TarHeader.text(try longText(header, &input)[...])
            case UInt8(ascii: "g"): try input.skip(header.size)
            default:
                if let name { header.name = name }
                if let link { header.link = link }
                if let size { header.size = size }
                guard !header.link.contains(0) else { throw FileFailure(EINVAL, path, "a link has a zero byte") }
                return header
            }
        }
    }

    private func longText(_ header: TarHeader, _ input: inout TarInput) throws -> [UInt8] {
        guard header.size <= TarReading.longNameBytesMax else { throw FileFailure(ENAMETOOLONG, path) }
        var text: [UInt8] = []
        try input.take(header.size) { text += $0 }
        return text
    }

    private static func records(_ text: [UInt8]) -> [(String, [UInt8])] {
        var records: [(String, [UInt8])] = []
        var rest = text[...]
        while let space = rest.firstIndex(of: 0x20),
            let length = Int(String(decoding: rest[..<space], as: UTF8.self)), length > 0, length <= rest.count,
            rest.startIndex + length > space + 1
        {
            let record = rest[(space + 1)..<(rest.startIndex + length)].dropLast()
            if let equals = record.firstIndex(of: UInt8(ascii: "=")) {
                records.append((String(decoding: record[..<equals], as: UTF8.self), Array(record[(equals + 1)...])))
            }
            rest = rest.dropFirst(length)
        }
        return records
    }

    // MARK: Entries

    private func writeFile(
        _ name: [EntryName], _ header: TarHeader, _ place: inout TarPlace, _ input: inout TarInput
    ) throws {
        let (folder, last) = try place.open(name)
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let number = try replace(folder, last, header) { openat(folder.number, last.bytes, flags, mode_t(0o600)) }
        let file = Descriptor(owning: number)
        let path = path
        try input.take(header.size) { try $0.withUnsafeBytes { try writeAll(number, $0, path) } }
        if isRoot { _ = fchown(number, header.owner, header.group) }
        try attempt(path) { fchmod(number, mode(header)) }
        setTime(file, header)
    }

    private func makeDirectory(
        _ name: [EntryName], _ header: TarHeader, _ place: inout TarPlace,
        _ directories: inout [([UInt8], TarHeader)]
    ) throws {
        // The archive's own root: the directory is there and keeps what it has.
        guard !name.isEmpty else { return }
        _ = try place.directory(name)
        directories.append((header.name, header))
    }

    private func finish(_ name: [EntryName], _ header: TarHeader, _ place: inout TarPlace) {
        guard let directory = try? place.directory(name) else { return }
        if isRoot { _ = fchown(directory.number, header.owner, header.group) }
        _ = fchmod(directory.number, mode(header))
        setTime(directory, header)
    }

    /// Makes something under a name; what has the name is removed first, unless it is a directory.
    @discardableResult
    private func replace(
        _ folder: Descriptor, _ name: EntryName, _ header: TarHeader, _ make: () -> Int32
    ) throws -> Int32 {
        let shown = path + "/" + String(decoding: header.name.prefix(4096), as: UTF8.self)
        let result = make()
        if result >= 0 { return result }
        guard errno == EEXIST else { throw FileFailure(errno, shown) }
        try attempt(shown) { unlinkat(folder.number, name.bytes, 0) }
        return try attempt(shown, make)
    }

    private func mode(_ header: TarHeader) -> mode_t { header.mode & (isRoot ? 0o7777 : 0o777) }

    private func setOwner(_ folder: Descriptor, _ name: EntryName, _ header: TarHeader) throws {
        if isRoot { _ = fchownat(folder.number, name.bytes, header.owner, header.group, AT_SYMLINK_NOFOLLOW) }
    }

    private func setTime(_ file: Descriptor, _ header: TarHeader) {
        let time = timespec(tv_sec: Int(header.time), tv_nsec: 0)
        _ = futimens(file.number, [time, time])
    }
}
