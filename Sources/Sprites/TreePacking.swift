// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import NIOPosix

/// A local folder as a tar stream: ustar, with pax headers where a name or size needs one.
struct TreePacking: AsyncSequence, Sendable {
    typealias Element = [UInt8]

    let folder: String

    struct AsyncIterator: AsyncIteratorProtocol {
        let packer: TreePacker

        mutating func next() async throws -> [UInt8]? {
            let packer = packer
            return try await NIOThreadPool.singleton.runIfActive { try packer.next() }
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(packer: TreePacker(folder)) }
}

/// Unchecked: an iterator calls it, one call after the other.
final class TreePacker: @unchecked Sendable {
    private static let pieceBytes = 256 << 10

    private struct Folder {
        var path: String
        /// Below the folder that is packed, with a slash at its end unless it is empty.
        var prefix: String
        /// Those that are still to come, the next one last.
        var names: [String]
    }

    private struct File {
        var descriptor: Int32
        var path: String
        var rest: Int64
        var padding: Int
    }

    private let root: String
    private var folders: [Folder] = []
    private var file: File?
    private var hasBegun = false
    private var hasEnded = false

    init(_ root: String) { self.root = root }

    deinit { if let file { close(file.descriptor) } }

    /// The next bytes, or nil at the end.
    ///
    /// - Throws: ``SpritesError`` with the name of the POSIX error as code.
    func next() throws -> [UInt8]? {
        if !hasBegun {
            hasBegun = true
            folders = [try folder(root, "")]
        }
        if file != nil { return try content() }
        while let last = folders.indices.last {
            guard let name = folders[last].names.popLast() else {
                folders.removeLast()
                continue
            }
            if let header = try entry(folders[last].path + "/" + name, folders[last].prefix + name) { return header }
        }
        defer { hasEnded = true }
        return hasEnded ? nil : [UInt8](repeating: 0, count: 1024)
    }

    private func folder(_ path: String, _ prefix: String) throws -> Folder {
        guard let stream = opendir(path) else { throw localFailure(path) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let bytes = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            let name = String(decoding: bytes, as: UTF8.self)
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw localFailure(path) }
        return Folder(path: path, prefix: prefix, names: names.sorted(by: >))
    }

    /// The header of what is at a path; nil for what no archive holds: sockets, pipes and devices.
    private func entry(_ path: String, _ name: String) throws -> [UInt8]? {
        var facts = stat()
        guard lstat(path, &facts) == 0 else { throw localFailure(path) }
        var header = TarEntry(name: name, mode: facts.st_mode, modified: Int64(facts.st_mtim.tv_sec))
        switch facts.st_mode & S_IFMT {
        case S_IFDIR:
            header.name += "/"
            header.type = "5"
            folders.append(try folder(path, header.name))
        case S_IFLNK:
            header.type = "2"
            var target = [CChar](repeating: 0, count: Int(PATH_MAX))
            let count = readlink(path, &target, target.count)
            guard count >= 0 else { throw localFailure(path) }
            header.link = String(decoding: target[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
        case S_IFREG:
            let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard descriptor >= 0, fstat(descriptor, &facts) == 0 else {
                defer { if descriptor >= 0 { close(descriptor) } }
                throw localFailure(path)
            }
            header.size = Int64(facts.st_size)
            file = File(
                descriptor: descriptor, path: path, rest: header.size, padding: TarEntry.padding(header.size))
        default:
            return nil
        }
        return header.blocks
    }

    private func content() throws -> [UInt8]? {
        guard var current = file else { return nil }
        guard current.rest > 0 else {
            close(current.descriptor)
            file = nil
            return current.padding > 0 ? [UInt8](repeating: 0, count: current.padding) : try next()
        }
        let wanted = Int(min(current.rest, Int64(Self.pieceBytes)))
        var count = 0
        let piece = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, initialized in
            count = read(current.descriptor, buffer.baseAddress, wanted)
            initialized = max(0, count)
        }
        guard count >= 0 else { throw localFailure(current.path) }
        guard count > 0 else {
            throw SpritesError(.init(rawValue: "EIO"), "\(current.path): it shrank while it was read")
        }
        current.rest -= Int64(count)
        file = current
        return piece
    }
}

/// The head of an entry of a tar archive.
struct TarEntry {
    static let blockBytes = 512
    /// The most that eleven octal digits hold.
    private static let sizeMax: Int64 = 0o77777777777

    var name: String
    var type: Character = "0"
    var mode: mode_t
    var size: Int64 = 0
    var modified: Int64
    var link = ""

    init(name: String, mode: mode_t, modified: Int64) {
        self.name = name
        self.mode = mode
        self.modified = modified
    }

    /// What follows a size up to the next block.
    static func padding(_ size: Int64) -> Int { Int((512 - size % 512) % 512) }

    var blocks: [UInt8] {
        var records: [UInt8] = []
        if name.utf8.count > 99 { records += Self.record("path", name) }
        if link.utf8.count > 99 { records += Self.record("linkpath", link) }
        if size > Self.sizeMax { records += Self.record("size", "\(size)") }
        guard !records.isEmpty else { return block }
        var extra = TarEntry(name: "pax", mode: 0o644, modified: 0)
        extra.type = "x"
        extra.size = Int64(records.count)
        return extra.block + records + [UInt8](repeating: 0, count: Self.padding(extra.size)) + block
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts itself.
    private static func record(_ key: String, _ value: String) -> [UInt8] {
        let rest = " \(key)=\(value)\n"
        var length = rest.utf8.count + 1
        while "\(length)".utf8.count + rest.utf8.count != length {
            length = "\(length)".utf8.count + rest.utf8.count
        }
        return Array("\(length)\(rest)".utf8)
    }

    private var block: [UInt8] {
        var block = [UInt8](repeating: 0, count: Self.blockBytes)
        func put(_ text: String, at: Int, max: Int) {
            for (index, byte) in text.utf8.prefix(max).enumerated() { block[at + index] = byte }
        }
        func number(_ value: Int64, at: Int, width: Int) {
            let digits = String(value, radix: 8)
            put(String(repeating: "0", count: max(0, width - 1 - digits.count)) + digits, at: at, max: width - 1)
        }
        put(name, at: 0, max: 100)
        number(Int64(mode & 0o7777), at: 100, width: 8)
        number(0, at: 108, width: 8)
        number(0, at: 116, width: 8)
        number(size > Self.sizeMax ? 0 : size, at: 124, width: 12)
        number(max(0, modified), at: 136, width: 12)
        put("        ", at: 148, max: 8)
        put(String(type), at: 156, max: 1)
        put(link, at: 157, max: 100)
        put("ustar\u{0}00", at: 257, max: 8)
        number(Int64(block.reduce(0) { $0 + Int($1) }), at: 148, width: 7)
        return block
    }
}

/// A failed call of this machine's kernel, as an error whose code is the name of the POSIX error.
func localFailure(_ path: String, _ number: Int32 = errno) -> SpritesError {
    let names: [Int32: String] = [
        ENOENT: "ENOENT", EACCES: "EACCES", EPERM: "EPERM", EEXIST: "EEXIST", ENOTDIR: "ENOTDIR", EISDIR: "EISDIR",
        ENOSPC: "ENOSPC", EDQUOT: "EDQUOT", EROFS: "EROFS", ELOOP: "ELOOP", ENAMETOOLONG: "ENAMETOOLONG",
        EMFILE: "EMFILE", ENOTEMPTY: "ENOTEMPTY",
    ]
    var error = SpritesError(.init(rawValue: names[number] ?? "EIO"), "\(path): \(errorText(number))")
    error.path = path
    return error
}
