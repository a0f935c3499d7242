// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// Everything a layer consists of, read from the upper folder of a sprite's overlay.
///
/// Owners are taken as they are: on the disk of a sprite they are those of its user namespace on the host, and that is
/// what the mounted layer has to show, since a FUSE mount cannot be id-mapped.
final class LayerTree {
    final class Node {
        enum Kind { case file, directory, link, device, pipe }
        var name: String
        var kind: Kind
        var facts: stat
        var inode: UInt64 = 0
        var children: [Node] = []
        var target = ""
        var attributes: [(name: String, value: [UInt8])] = []
        /// Where its content lies; in the order of their places in the file once packing is planned.
        var pieces: [Piece] = []

        init(name: String, kind: Kind, facts: stat) {
            self.name = name
            self.kind = kind
            self.facts = facts
        }
    }

    /// A part of a file's content, and where it lies.
    struct Piece {
        /// Index of the slice in the list of all.
        var slice: Int
        /// Where in the slice it begins.
        var start: Int
        /// Where in the file it begins.
        var offset: Int
        /// Never reaches over the end of 64 MiB of a file.
        var count: Int
    }

    let root: Node
    /// Files with content in the order of their paths, each inode once.
    private(set) var files: [(path: String, node: Node)] = []
    private(set) var entries = 0
    private(set) var sizeBytes: UInt64 = 0
    /// In the order of the walk, which is the same for the same tree.
    private var byInode: [UInt64: Node] = [:]
    private var nextInode: UInt64 = 2
    private let source: String
    private let base: String?
    private let begun: Int64
    private let baseMade: Int64
    private let epoch: Int64

    /// What PID 1 writes at every start, or what belongs to one machine.
    private static let skipped: Set<String> = [
        "/.sprite", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/machine-id", "/run", "/tmp", "/proc",
        "/sys", "/dev", "/var/tmp", "/home",
    ]
    static let entriesMax = 2_000_000

    /// - Parameters:
    ///   - base: The root of what the tree lies over, if it is there to be looked at.
    ///   - begun: Seconds since 1970; later times of change were made by the build itself and become `epoch`.
    ///   - baseMade: When the base was built or imported on this host, in seconds since 1970.
    ///   - epoch: The same for the same base on every host, in seconds since 1970.
    init(_ source: String, over base: String? = nil, begun: Int64, baseMade: Int64, epoch: Int64) throws {
        self.source = source
        self.base = base
        self.begun = begun
        self.baseMade = baseMade
        self.epoch = epoch
        var facts = stat()
        try system("inspect \(source)") { lstat(source, &facts) }
        root = Node(name: "root", kind: .directory, facts: facts)
        settleTime(&root.facts)
        root.inode = nextInode
        nextInode += 1
        try walk(root, "")
    }

    /// A time that two hosts agree on, whenever each of them imported the base: that of its release's own file, which
    /// comes from a package or an image.
    ///
    /// Not earlier than 2000: a zip archive, such as a Python wheel, cannot tell of a time before 1980.
    static func epoch(ofBase root: String) -> Int64 {
        let earliest: Int64 = 946_684_800
        var facts = stat()
        for name in ["/usr/lib/os-release", "/etc/os-release"] where lstat(root + name, &facts) == 0 {
            return max(Int64(facts.st_mtim.tv_sec), earliest)
        }
        return earliest
    }

    private func walk(_ node: Node, _ path: String) throws {
        for name in try sortedNames(source + path) {
            let place = "\(path)/\(name)"
            if Self.skipped.contains(place) { continue }
            guard let child = try makeNode(at: place, name) else { continue }
            node.children.append(child)
            entries += 1
            guard entries <= Self.entriesMax else {
                throw SpriteError(.tooLarge, "cannot pack layer: it has more than \(Self.entriesMax) entries")
            }
            if child.kind == .directory { try walk(child, place) }
        }
    }

    private func makeNode(at place: String, _ name: String) throws -> Node? {
        let path = source + place
        var facts = stat()
        try system("inspect \(path)") { lstat(path, &facts) }
        settleTime(&facts)
        let kind: Node.Kind
        switch facts.st_mode & S_IFMT {
        case S_IFREG: kind = .file
        case S_IFDIR: kind = .directory
        case S_IFLNK: kind = .link
        case S_IFCHR where facts.st_rdev == 0: kind = .device
        case S_IFIFO: kind = .pipe
        // A socket lives only as long as its program; other devices cannot be made inside.
        default: return nil
        }
        let node = Node(name: name, kind: kind, facts: facts)
        if kind != .directory, facts.st_nlink > 1, let first = byInode[UInt64(facts.st_ino)] {
            node.inode = first.inode
            node.target = first.target
            node.attributes = first.attributes
            // Shared, so that both show the same slices once those are known.
            links.append((node, first))
            return node
        }
        node.inode = nextInode
        nextInode += 1
        if facts.st_nlink > 1, kind != .directory { byInode[UInt64(facts.st_ino)] = node }
        if kind == .link { node.target = try readLink(path) }
        node.attributes = try attributes(path, place)
        if kind == .file, facts.st_size > 0 {
            files.append((place, node))
            sizeBytes += UInt64(facts.st_size)
        }
        return node
    }

    /// Gives what the build changed one time, the same in each build.
    ///
    /// A folder's own time says when the last name in it came or went: that of the base, or of this build, or, where
    /// two copies into the disk met, either. What the import of the base touched in its last second may be as late as
    /// a build that began in the same second.
    private func settleTime(_ facts: inout stat) {
        let changed = Int64(facts.st_mtim.tv_sec)
        guard facts.st_mode & S_IFMT == S_IFDIR || changed >= begun || changed == baseMade else { return }
        facts.st_mtim = timespec(tv_sec: Int(epoch), tv_nsec: 0)
    }

    private var links: [(link: Node, first: Node)] = []

    /// Gives further names of a file the slices that its first name got.
    func settleLinks() {
        for (link, first) in links {
            link.pieces = first.pieces
        }
    }

    private func attributes(_ path: String, _ place: String) throws -> [(name: String, value: [UInt8])] {
        var list = [CChar](repeating: 0, count: 64 << 10)
        let length = clinux_list_attributes(path, &list, list.count)
        if length == -Int64(ENOTSUP) || length == 0 { return [] }
        guard length > 0 else { throw SystemError(Int32(-length), "list attributes of \(path)") }
        var result: [(name: String, value: [UInt8])] = []
        for bytes in list.prefix(Int(length)).split(separator: 0) {
            let name = String(decoding: bytes.map(UInt8.init(bitPattern:)), as: UTF8.self)
            if name == "trusted.overlay.redirect" || name == "trusted.overlay.metacopy" {
                throw SpriteError(
                    .unsupported,
                    "cannot pack layer: \(place) is a renamed folder of the base; let the recipe copy it instead")
            }
            let isKept =
                name == "trusted.overlay.opaque" || name == "security.capability" || name.hasPrefix("user.")
            guard isKept, name != "trusted.overlay.opaque" || hidesFolder(place) else { continue }
            var value = [UInt8](repeating: 0, count: 64 << 10)
            let count = clinux_read_attribute(path, name, &value, value.count)
            guard count >= 0 else { throw SystemError(Int32(-count), "read attribute \(name) of \(path)") }
            result.append((name, Array(value.prefix(Int(count)))))
        }
        return result.sorted { $0.name < $1.name }
    }

    /// Overlayfs calls each folder that it makes opaque, also where nothing lies below it that could show through.
    ///
    /// Without these a layer has no attributes, as a rule, and then need not be asked for them at each lookup.
    private func hidesFolder(_ place: String) -> Bool {
        guard let base else { return true }
        var facts = stat()
        return lstat(base + place, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR
    }

    private func readLink(_ path: String) throws -> String {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = readlink(path, &buffer, 4096)
        guard count >= 0 else { throw SystemError(errno, "read link \(path)") }
        return String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private func sortedNames(_ path: String) throws -> [String] {
        guard let stream = opendir(path) else { throw SystemError(errno, "list \(path)") }
        defer { closedir(stream) }
        var result: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { result.append(name) }
        }
        return result.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
}
