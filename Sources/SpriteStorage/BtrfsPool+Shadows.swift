// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Whichever C module is read first is taken for the one that defines `timespec`.
import CBtrfs
import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem

/// What of a base a sprite's disk hides.
extension BtrfsPool {
    package func shadowedFiles(_ sprite: SpriteID, from: BaseName, to: BaseName) async throws -> ShadowReport {
        try await blocking { [self] in
            try poolOperation("compare sprite \(sprite) with base \(to)") {
                var walk = ShadowWalk()
                let upper = try openDirectory("\(livePath(sprite))/upper")
                try walk.visit(upper, try openBase(from), try openBase(to), "", depth: 0)
                walk.report.files.sort { $0.path < $1.path }
                return walk.report
            }
        }
    }

    private func openBase(_ base: BaseName) throws -> Descriptor {
        guard let folder = try openDirectoryIfExists(basePath(base)) else {
            throw SpriteError(.notFound, "cannot use base \(base): there is none of this name")
        }
        return folder
    }
}

/// Goes through the sprite's own layer and both bases side by side; no link is followed, whoever made it.
private struct ShadowWalk {
    /// Deeper than any path that fits the kernel's limit for one call in practice, and shallow enough for our stack.
    private static let depthMax = 200
    private static let comparedBytesMax = 64 << 20

    var report = ShadowReport()

    /// - Parameters:
    ///   - old: The folder of the base so far; nil if that has none here.
    ///   - new: That of the base to come.
    mutating func visit(
        _ own: Descriptor, _ old: Descriptor?, _ new: Descriptor, _ path: String, depth: Int
    ) throws {
        // By the base's names: their number is known, that of the sprite's own files is its own choice.
        for name in try directoryNames("/proc/self/fd/\(new.number)") {
            guard let facts = look(own, name), let coming = look(new, name) else { continue }
            let place = "\(path)/\(name)"
            let isWhiteout = facts.st_mode & S_IFMT == S_IFCHR && facts.st_rdev == 0
            let isFolder = facts.st_mode & S_IFMT == S_IFDIR
            guard isFolder, coming.st_mode & S_IFMT == S_IFDIR else {
                if try differ(old, new, name, coming) {
                    add(place, isWhiteout ? .deleted : isFolder ? .directory : .own)
                }
                continue
            }
            guard let inner = enter(own, name), let newInner = enter(new, name) else { continue }
            if isOpaque(inner) {
                add(place, .directory)
                continue
            }
            guard depth < Self.depthMax else { continue }
            try visit(inner, old.flatMap { enter($0, name) }, newInner, place, depth: depth + 1)
        }
    }

    /// Nil also for what whoever runs in the sprite has just taken away.
    private func enter(_ folder: Descriptor, _ name: String) -> Descriptor? {
        let number = openat(folder.number, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        return number < 0 ? nil : Descriptor(owning: number)
    }

    private mutating func add(_ path: String, _ kind: ShadowedFile.Kind) {
        report.count += 1
        if report.files.count < Limits.shadowedFilesMax { report.files.append(ShadowedFile(path: path, kind: kind)) }
    }

    private func look(_ folder: Descriptor, _ name: String) -> stat? {
        var facts = stat()
        return fstatat(folder.number, name, &facts, AT_SYMLINK_NOFOLLOW) == 0 ? facts : nil
    }

    /// Made anew over a folder of the base that was deleted.
    private func isOpaque(_ folder: Descriptor) -> Bool {
        clinux_attribute_is(folder.number, "trusted.overlay.opaque", "y") == 1
    }

    /// Whether the two bases have something different here: what they share is hidden now as it was before.
    private func differ(_ old: Descriptor?, _ new: Descriptor, _ name: String, _ coming: stat) throws -> Bool {
        guard let old, let before = look(old, name) else { return true }
        guard before.st_mode == coming.st_mode, before.st_uid == coming.st_uid, before.st_gid == coming.st_gid else {
            return true
        }
        switch coming.st_mode & S_IFMT {
        case S_IFLNK: return target(old, name) != target(new, name)
        case S_IFREG:
            guard before.st_size == coming.st_size else { return true }
            if before.st_mtim.tv_sec == coming.st_mtim.tv_sec, before.st_mtim.tv_nsec == coming.st_mtim.tv_nsec {
                return false
            }
            return try content(old, name) != content(new, name)
        // Whole and hidden: what is in it is not compared one by one.
        case S_IFDIR: return true
        default: return false
        }
    }

    private func target(_ folder: Descriptor, _ name: String) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlinkat(folder.number, name, &buffer, buffer.count)
        return buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }
    }

    private func content(_ folder: Descriptor, _ name: String) throws -> [UInt8] {
        let number = openat(folder.number, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        let file = Descriptor(owning: try system("open \(name)") { number })
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count < Self.comparedBytesMax {
            let count = read(file.number, &buffer, buffer.count)
            guard count > 0 else { break }
            bytes.append(contentsOf: buffer[..<count])
        }
        return bytes
    }
}
