// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// Unpacks a tar stream below a local folder, piece by piece.
///
/// What comes out of a sprite is not to be trusted: nothing is written outside the folder, through a link least of all,
/// and no link may lead out. Every folder above an entry is opened without following links, and the entry is made in it.
///
/// Unchecked: whoever made it calls it, one call after the other.
final class TreeUnpacker: @unchecked Sendable {
    /// Long names and the like; names are at most 4 KiB.
    private static let recordsBytesMax: Int64 = 1 << 20
    private static let depthMax = 256

    private enum State {
        case head
        case records(type: UInt8, rest: Int64)
        case content(descriptor: Int32, path: String, rest: Int64)
        case skipping(Int64)
        case ended
    }

    private let root: Int32
    private var state = State.head
    /// A head or records that have not arrived in whole.
    private var pending: [UInt8] = []
    private var padding = 0
    private var named: [String: String] = [:]

    /// Makes the folder unless it is there.
    init(_ folder: String) throws {
        var path = ""
        for part in folder.split(separator: "/", omittingEmptySubsequences: false) {
            path += path.isEmpty && !folder.hasPrefix("/") ? part : "/" + part
            if !part.isEmpty, mkdir(path, 0o755) != 0, errno != EEXIST { throw localFailure(path) }
        }
        root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard root >= 0 else { throw localFailure(folder) }
    }

    deinit {
        if case .content(let descriptor, _, _) = state { close(descriptor) }
        if root >= 0 { close(root) }
    }

    /// To be called at the end of the stream.
    func finish() throws {
        guard case .ended = state else { throw broken("the archive ends too early") }
    }

    func add(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            switch state {
            case .head:
                guard take(&rest, Int64(TarEntry.blockBytes)) else { return }
                let head = pending
                pending = []
                try begin(head)
            case .records(let type, let size):
                guard take(&rest, size) else { return }
                let records = pending
                pending = []
                read(records, type)
                state = padding > 0 ? .skipping(Int64(padding)) : .head
            case .content(let descriptor, let path, let size):
                let piece = rest.prefix(Int(min(Int64(rest.count), size)))
                rest = rest.dropFirst(piece.count)
                state = .content(descriptor: descriptor, path: path, rest: size - Int64(piece.count))
                try write(piece, descriptor, path)
                if size == piece.count {
                    state = padding > 0 ? .skipping(Int64(padding)) : .head
                    guard close(descriptor) == 0 else { throw localFailure(path) }
                }
            case .skipping(let size):
                let count = Int(min(Int64(rest.count), size))
                rest = rest.dropFirst(count)
                state = size == count ? .head : .skipping(size - Int64(count))
            case .ended:
                return  // Zeros.
            }
        }
    }

    /// - Returns: Whether `pending` is complete.
    private func take(_ rest: inout ArraySlice<UInt8>, _ size: Int64) -> Bool {
        let piece = rest.prefix(Int(size) - pending.count)
        pending += piece
        rest = rest.dropFirst(piece.count)
        return pending.count == Int(size)
    }

    private func write(_ piece: ArraySlice<UInt8>, _ descriptor: Int32, _ path: String) throws {
        var left = piece
        while !left.isEmpty {
            let count = left.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else {
                if errno == EINTR { continue }
                throw localFailure(path)
            }
            left = left.dropFirst(count)
        }
    }

    // MARK: Entries

    private func begin(_ head: [UInt8]) throws {
        if head.allSatisfy({ $0 == 0 }) {
            state = .ended
            return
        }
        func text(_ at: Int, _ width: Int) -> String {
            String(decoding: head[at..<at + width].prefix { $0 != 0 }, as: UTF8.self)
        }
        let type = head[156] == 0 ? UInt8(ascii: "0") : head[156]
        guard let size = try named["size"].map({ Int64($0) }) ?? number(head[124..<136]), size >= 0, size <= 1 << 50
        else {
            throw broken("the archive has an entry of no sensible size")
        }
        padding = TarEntry.padding(size)
        if "xgLK".utf8.contains(type) {
            guard size <= Self.recordsBytesMax else { throw broken("the archive has a header that is too long") }
            state = size > 0 ? .records(type: type, rest: size) : .head
            return
        }
        let isUstar = head[257..<263].elementsEqual("ustar\u{0}".utf8)
        let prefix = isUstar ? text(345, 155) : ""
        let name = named["path"] ?? (prefix.isEmpty ? "" : prefix + "/") + text(0, 100)
        let link = named["linkpath"] ?? text(157, 100)
        let mode = mode_t((try number(head[100..<108]) ?? 0o644) & 0o777)
        named = [:]
        state = size + Int64(padding) > 0 ? .skipping(size + Int64(padding)) : .head
        switch type {
        case UInt8(ascii: "5"):
            close(try folder(try parts(name), name, mode | 0o700))
        case UInt8(ascii: "0"), UInt8(ascii: "7"):
            let descriptor = try inside(name) { folder, last in
                unlinkat(folder, last, 0)
                return openat(folder, last, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)
            }
            if size > 0 {
                state = .content(descriptor: descriptor, path: name, rest: size)
            } else {
                close(descriptor)
            }
        case UInt8(ascii: "2"):
            guard stays(link, try parts(name).count - 1) else { throw refused(name) }
            _ = try inside(name) { folder, last in
                unlinkat(folder, last, 0)
                return symlinkat(link, folder, last)
            }
        case UInt8(ascii: "1"):
            _ = try inside(link) { [self] origin, original in
                // A link, at another depth, would lead elsewhere.
                var facts = stat()
                guard fstatat(origin, original, &facts, AT_SYMLINK_NOFOLLOW) == 0, facts.st_mode & S_IFMT == S_IFREG
                else { throw refused(name) }
                return try inside(name) { folder, last in
                    unlinkat(folder, last, 0)
                    return linkat(origin, original, folder, last, 0)
                }
            }
        default:
            throw refused(name)
        }
    }

    /// Octal digits, or a binary number behind a set bit.
    private func number(_ field: ArraySlice<UInt8>) throws -> Int64? {
        guard let first = field.first else { return nil }
        if first & 0x80 != 0 { return field.suffix(8).reduce(0) { $0 << 8 | Int64($1) } }
        let digits = field.drop { $0 == 0x20 }.prefix { (0x30...0x37).contains($0) }
        return digits.isEmpty ? 0 : Int64(String(decoding: digits, as: UTF8.self), radix: 8)
    }

    private func read(_ records: [UInt8], _ type: UInt8) {
        switch type {
        case UInt8(ascii: "L"): named["path"] = String(decoding: records.prefix { $0 != 0 }, as: UTF8.self)
        case UInt8(ascii: "K"): named["linkpath"] = String(decoding: records.prefix { $0 != 0 }, as: UTF8.self)
        case UInt8(ascii: "x"):
            var rest = records[...]
            while let space = rest.firstIndex(of: 0x20),
                let length = Int(String(decoding: rest[..<space], as: UTF8.self)), length > space - rest.startIndex + 1,
                length <= rest.count
            {
                let record = rest[(space + 1)..<(rest.startIndex + length - 1)]
                if let equals = record.firstIndex(of: 0x3D) {
                    named[String(decoding: record[..<equals], as: UTF8.self)] =
                        String(decoding: record[(equals + 1)...], as: UTF8.self)
                }
                rest = rest.dropFirst(length)
            }
        default: break
        }
    }

    // MARK: Places

    private func parts(_ name: String) throws -> [Substring] {
        let parts = name.split(separator: "/").filter { $0 != "." }
        guard !name.hasPrefix("/"), !name.utf8.contains(0), !parts.contains(".."), parts.count <= Self.depthMax else {
            throw refused(name)
        }
        return parts
    }

    /// Whether a link stays in the folder, whatever other links it leads through: `..` behind a name could mean the
    /// parent of another link's target, so it comes first or not at all.
    ///
    /// - Parameter depth: That of the folder that the link lies in.
    private func stays(_ link: String, _ depth: Int) -> Bool {
        let parts = link.split(separator: "/").filter { $0 != "." }
        let up = parts.prefix { $0 == ".." }.count
        return !link.hasPrefix("/") && up <= depth && !parts.dropFirst(up).contains("..")
    }

    /// Does something in the folder of an entry, which is made if it is missing.
    private func inside(_ name: String, _ body: (Int32, String) throws -> Int32) throws -> Int32 {
        let parts = try parts(name)
        guard let last = parts.last else { throw refused(name) }
        let folder = try folder(parts.dropLast(), name, 0o755)
        defer { close(folder) }
        let result = try body(folder, String(last))
        guard result >= 0 else { throw localFailure(name) }
        return result
    }

    /// Opens a folder, made with those above it if it is missing; none of them may be a link.
    private func folder(_ parts: some Collection<Substring>, _ name: String, _ mode: mode_t) throws -> Int32 {
        var current = dup(root)
        guard current >= 0 else { throw localFailure(name) }
        for (index, part) in parts.enumerated() {
            let (above, part) = (current, String(part))
            defer { close(above) }
            guard mkdirat(above, part, index == parts.count - 1 ? mode : 0o755) == 0 || errno == EEXIST else {
                throw localFailure(name)
            }
            let next = openat(above, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard next >= 0 else { throw errno == ENOTDIR || errno == ELOOP ? refused(name) : localFailure(name) }
            current = next
        }
        return current
    }

    private func refused(_ name: String) -> SpritesError {
        broken("refused to unpack '\(name)': it leads out of the folder or is no plain file")
    }

    private func broken(_ message: String) -> SpritesError { SpritesError(.init(rawValue: "EINVAL"), message) }
}
