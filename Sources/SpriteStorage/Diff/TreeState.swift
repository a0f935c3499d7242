// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// One state of a sprite's disk: as the sprite sees it, and the layer of its own changes beside it.
///
/// The view is an overlay mounted by the kernel, so that whiteouts, opaque and redirected directories mean here what
/// they mean inside. Nothing is looked up through a symbolic link.
final class TreeState {
    /// Below `upper/` of the subvolume.
    enum Layer: Hashable {
        /// Nothing here, or a directory that adds to the one below.
        case transparent
        /// What lies below is hidden.
        case opaque
        /// The directory below is that of another place.
        case redirected([UInt8])
    }

    let view: Descriptor
    let subvolume: Descriptor
    private let upper: Descriptor
    private let plain: [(prefix: [UInt8], root: Descriptor)]
    /// Parents of one place after the other are mostly the same.
    private var lastParent: (path: [UInt8], directory: Descriptor?)?

    init(view: Descriptor, subvolume: Descriptor) throws {
        self.view = view
        self.subvolume = subvolume
        upper = try Self.open(subvolume, "upper")
        plain = try PlainDirectory.all.map {
            (Array($0.destination.utf8), try Self.open(subvolume, "plain/\($0.name)"))
        }
    }

    private static func open(_ root: Descriptor, _ path: String) throws -> Descriptor {
        Descriptor(
            owning: try checked(
                clinux_open_beneath(root.number, path, O_RDONLY | O_DIRECTORY, 0, 1), "open \(path) of a disk"))
    }

    /// The place inside the sprite of a path in the subvolume; nil for what it does not see.
    static func place(_ path: [UInt8]) -> [UInt8]? {
        let upper = Array("upper".utf8)
        if path == upper { return [0x2F] }
        if path.starts(with: upper + [0x2F]) { return Array(path[upper.count...]) }
        for one in PlainDirectory.all {
            let prefix = Array("plain/\(one.name)".utf8)
            if path == prefix || path.starts(with: prefix + [0x2F]) {
                return Array(one.destination.utf8) + path[prefix.count...]
            }
        }
        return nil
    }

    /// The root a place is looked up from, and its path there.
    private func locate(_ path: [UInt8]) -> (root: Descriptor, path: [UInt8]) {
        for one in plain where path == one.prefix || path.starts(with: one.prefix + [0x2F]) {
            return (one.root, Array(path[one.prefix.count...].drop { $0 == 0x2F }))
        }
        return (view, Array(path.drop { $0 == 0x2F }))
    }

    func isPlain(_ path: [UInt8]) -> Bool {
        plain.contains { path == $0.prefix || path.starts(with: $0.prefix + [0x2F]) }
    }

    /// What is at a place; nil if nothing is.
    func inspect(_ path: [UInt8]) throws -> clinux_entry? {
        let (root, inner) = locate(path)
        guard !inner.isEmpty else { return try inspect([], in: root) }
        let slash = inner.lastIndex(of: 0x2F)
        let name = slash.map { Array(inner[($0 + 1)...]) } ?? inner
        let parentPath = slash.map { Array(inner[..<$0]) } ?? []
        let key = path.dropLast(name.count)
        if let last = lastParent, last.path.elementsEqual(key) {
            return try last.directory.flatMap { try inspect(name, in: $0) }
        }
        let parent = try open(parentPath, in: root, clinux_path_only() | O_DIRECTORY)
        lastParent = (Array(key), parent)
        return try parent.flatMap { try inspect(name, in: $0) }
    }

    /// - Parameter name: Empty for the directory itself.
    func inspect(_ name: [UInt8], in directory: Descriptor) throws -> clinux_entry? {
        var entry = clinux_entry()
        let result = withPath(name) { clinux_inspect(directory.number, $0, &entry) }
        if result == -ENOENT || result == -ENOTDIR { return nil }
        try checked(result, "inspect an entry of a disk")
        return entry
    }

    /// Nil if it is not there, or not as `flags` want it.
    func open(_ path: [UInt8], _ flags: Int32) throws -> Descriptor? {
        let (root, inner) = locate(path)
        return try open(inner, in: root, flags)
    }

    private func open(_ path: [UInt8], in root: Descriptor, _ flags: Int32) throws -> Descriptor? {
        let result = withPath(path.isEmpty ? [0x2E] : path) {
            clinux_open_beneath(root.number, $0, flags | O_NOFOLLOW, 0, 1)
        }
        switch -result {
        case ENOENT, ENOTDIR, ELOOP, EXDEV: return nil
        case ENAMETOOLONG:
            throw SpriteError(.tooLarge, "cannot compare: a path is longer than 4095 bytes")
        default: return Descriptor(owning: try checked(result, "open an entry of a disk"))
        }
    }

    /// Opens a regular file for reading, without waiting for anything.
    func openFile(_ path: [UInt8]) throws -> Descriptor? {
        guard let file = try open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY) else { return nil }
        var facts = stat()
        guard fstat(file.number, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else { return nil }
        return file
    }

    // MARK: The layer of changes

    /// What the layer of changes itself has at a place.
    func inspectUpper(_ path: [UInt8]) -> clinux_entry? {
        guard !isPlain(path) else { return try? inspect(path) }
        guard let entry = openUpper(path) else { return nil }
        return try? inspect([], in: entry)
    }

    private func openUpper(_ path: [UInt8]) -> Descriptor? {
        let inner = Array(path.drop { $0 == 0x2F })
        let flags = clinux_path_only() | O_NOFOLLOW
        let result = withPath(inner.isEmpty ? [0x2E] : inner) {
            clinux_open_beneath(upper.number, $0, flags, 0, 1)
        }
        return result < 0 ? nil : Descriptor(owning: result)
    }

    func layer(_ path: [UInt8]) -> Layer {
        guard !isPlain(path), let entry = openUpper(path), let facts = try? inspect([], in: entry),
            facts.mode & S_IFMT == S_IFDIR
        else { return .transparent }
        if let target = attribute("trusted.overlay.redirect", of: entry) { return .redirected(target) }
        return attribute("trusted.overlay.opaque", of: entry) == [UInt8(ascii: "y")] ? .opaque : .transparent
    }

    /// The inode of the layer below that was copied up to make this; nil for anything else.
    ///
    /// The attribute holds a file handle: 21 bytes of the overlay's own, then btrfs's, which begins with the inode.
    func originInode(_ path: [UInt8]) -> UInt64? {
        guard !isPlain(path), let entry = openUpper(path),
            let handle = attribute("trusted.overlay.origin", of: entry), handle.count >= 29, handle[1] == 0xFB,
            // A handle of btrfs: inode, root, generation, with or without those of the parent.
            handle[4] == 0x4D || handle[4] == 0x4E || handle[4] == 0x4F
        else { return nil }
        return handle[21..<29].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private func attribute(_ name: String, of entry: Descriptor) -> [UInt8]? {
        var value = [UInt8](repeating: 0, count: 4096)
        let count = clinux_entry_attribute(entry.number, name, &value, value.count)
        return count < 0 ? nil : Array(value[..<Int(count)])
    }

    /// Every inside name of the inode of a place, the place itself included.
    func namesOfInode(_ path: [UInt8]) throws -> [[UInt8]] {
        guard let facts = inspectUpper(path), facts.links > 1, facts.mode & S_IFMT != S_IFDIR else { return [path] }
        var buffer = [CChar](repeating: 0, count: 128 << 10)
        let count = clinux_btrfs_inode_paths(subvolume.number, facts.inode, &buffer, buffer.count)
        // More names than fit: the others keep quiet about a change of the file, as told in the documentation.
        guard count >= 0 else { return [path] }
        let bytes = buffer[..<Int(count)].map(UInt8.init(bitPattern:))
        return bytes.split(separator: 0).compactMap { Self.place(Array($0)) }
    }

    /// Names in a directory of the view, sorted.
    func names(in directory: Descriptor) throws -> [[UInt8]] { try sortedNames(in: directory) }

    /// Extended attributes a sprite can see, with their values.
    func attributes(_ path: [UInt8]) throws -> [[UInt8]: [UInt8]] {
        guard let entry = try open(path, clinux_path_only()) else { return [:] }
        return visibleAttributes(entry)
    }
}

/// Runs `body` with a path as C has them; bytes of paths never hold a zero.
func withPath<Result>(_ path: [UInt8], _ body: (UnsafePointer<CChar>) throws -> Result) rethrows -> Result {
    try (path + [0]).withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { preconditionFailure("the path has at least its terminator") }
        return try body(base.assumingMemoryBound(to: CChar.self))
    }
}

/// Names in an open directory, without `.` and `..`, sorted.
func sortedNames(in directory: Descriptor) throws -> [[UInt8]] {
    let copy = try checked(clinux_open_beneath(directory.number, ".", O_RDONLY | O_DIRECTORY, 0, 0), "open a directory")
    guard let stream = fdopendir(copy) else {
        close(copy)
        throw SystemError(errno, "list a directory")
    }
    defer { closedir(stream) }
    var names: [[UInt8]] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
        if name != [0x2E], name != [0x2E, 0x2E] { names.append(name) }
    }
    return names.sorted { $0.lexicographicallyPrecedes($1) }
}

/// Extended attributes without those of the overlay and of security modules of the host.
func visibleAttributes(_ entry: Descriptor) -> [[UInt8]: [UInt8]] {
    let needed = clinux_entry_attributes(entry.number, nil, 0)
    guard needed > 0 else { return [:] }
    var list = [CChar](repeating: 0, count: 64 << 10)
    let count = clinux_entry_attributes(entry.number, &list, list.count)
    guard count > 0 else { return [:] }
    var result: [[UInt8]: [UInt8]] = [:]
    var value = [UInt8](repeating: 0, count: 64 << 10)
    for part in list[..<Int(count)].map(UInt8.init(bitPattern:)).split(separator: 0) {
        let name = Array(part)
        let text = String(decoding: name, as: UTF8.self)
        guard text.hasPrefix("user.") || text == "security.capability" || text.hasPrefix("system.posix_acl_") else {
            continue
        }
        let size = withPath(name) { clinux_entry_attribute(entry.number, $0, &value, value.count) }
        if size >= 0 { result[name] = Array(value[..<Int(size)]) }
    }
    return result
}

extension TreeEntry {
    init(_ entry: clinux_entry) {
        let kind: TreeEntryKind =
            switch mode_t(entry.mode) & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .symlink
            case S_IFIFO: .fifo
            case S_IFSOCK: .socket
            case S_IFCHR: .characterDevice
            case S_IFBLK: .blockDevice
            default: .file
            }
        func inside(_ number: UInt32) -> UInt32 {
            number >= shiftedRoot && number - shiftedRoot < 65536 ? number - shiftedRoot : 65534
        }
        self.init(
            kind: kind, mode: entry.mode & 0o7777, user: inside(entry.uid), group: inside(entry.gid),
            size: kind == .file || kind == .symlink ? entry.size : 0)
    }
}
