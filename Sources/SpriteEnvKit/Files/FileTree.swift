// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// A name in a directory, with the bytes it really has: they need not be UTF-8.
struct EntryName {
    /// With the zero at its end.
    let bytes: [CChar]
    let isDirectory: Bool

    init(_ bytes: [CChar], isDirectory: Bool = false) {
        self.bytes = bytes
        self.isDirectory = isDirectory
    }

    init(_ text: String) { self.init(text.utf8CString.map { $0 }) }

    var text: String { String(decoding: raw, as: UTF8.self) }
    var raw: [UInt8] { bytes.dropLast().map(UInt8.init(bitPattern:)) }
}

/// Walking trees without following symbolic links: each step is taken from the descriptor of the directory above.
enum FileTree {
    /// Each level takes a descriptor and some stack; deeper trees are made to do harm.
    static let depthMax = 1000

    static func allowManyDescriptors() { clinux_limit_files(0) }

    /// Opens a directory below another one.
    static func open(_ directory: Int32, _ name: EntryName, _ path: String) throws -> Descriptor {
        Descriptor(
            owning: try attempt(path) {
                openat(directory, name.bytes, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            })
    }

    /// Opens the directory a path names; links are followed.
    static func open(_ path: String) throws -> Descriptor {
        Descriptor(
            owning: try attempt(path) { Glibc.open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC) })
    }

    /// The directory that holds what a path names; it need not be readable.
    static func openParent(_ path: String) throws -> (directory: Descriptor, name: EntryName) {
        let (folder, name) = split(path)
        guard !name.isEmpty else { throw FileFailure(EBUSY, path) }
        let number = clinux_open_path(AT_FDCWD, folder, O_DIRECTORY)
        guard number >= 0 else { throw FileFailure(-number, path) }
        return (Descriptor(owning: number), EntryName(name))
    }

    static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = path[..<slash]
        return (folder.isEmpty ? "/" : String(folder), String(path[path.index(after: slash)...]))
    }

    static func join(_ folder: String, _ name: EntryName) -> String {
        folder.hasSuffix("/") ? folder + name.text : "\(folder)/\(name.text)"
    }

    static func facts(_ directory: Int32, _ name: EntryName, _ path: String) throws -> stat {
        var facts = stat()
        try attempt(path) { fstatat(directory, name.bytes, &facts, AT_SYMLINK_NOFOLLOW) }
        return facts
    }

    static func facts(_ descriptor: Int32, _ path: String) throws -> stat {
        var facts = stat()
        try attempt(path) { fstat(descriptor, &facts) }
        return facts
    }

    /// What is in a directory, in the order of the bytes of the names.
    static func names(_ directory: Descriptor, _ path: String) throws -> [EntryName] {
        let copy = try attempt(path) { fcntl(directory.number, F_DUPFD_CLOEXEC, 3) }
        guard let stream = fdopendir(copy) else {
            let number = errno
            close(copy)
            throw FileFailure(number, path)
        }
        defer { closedir(stream) }
        rewinddir(stream)
        let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19
        var names: [EntryName] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw FileFailure(errno, path) }
                break
            }
            let text = (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self)
            let bytes = Array(UnsafeBufferPointer(start: text, count: strlen(text) + 1))
            if bytes == [0x2E, 0] || bytes == [0x2E, 0x2E, 0] { continue }
            names.append(EntryName(bytes, isDirectory: entry.pointee.d_type == UInt8(DT_DIR)))
        }
        return names.sorted {
            $0.bytes.lexicographicallyPrecedes($1.bytes) { UInt8(bitPattern: $0) < UInt8(bitPattern: $1) }
        }
    }

    /// Makes a directory and those above it that are missing.
    static func makeDirectories(_ path: String) throws {
        if mkdir(path, 0o777) == 0 || errno == EEXIST { return }
        let number = errno
        guard number == ENOENT, path != "/" else { throw FileFailure(number, path) }
        try makeDirectories(split(path).folder)
        if mkdir(path, 0o777) < 0, errno != EEXIST { throw FileFailure(errno, path) }
    }

    /// Copies bytes between two files, shared on disk where that can be; returns how many.
    static func copyBytes(_ source: Int32, _ target: Int32, _ path: String) throws -> Int64 {
        var total: Int64 = 0
        while true {
            let count = clinux_copy_range(source, target, 64 << 20)
            if count == 0, total > 0 { return total }
            guard count > 0 else {
                // Files of /proc say that they are empty, and some file systems cannot do it.
                let number = Int32(clamping: -count)
                if number == EINTR { continue }
                guard [0, EXDEV, EINVAL, ENOSYS, EOPNOTSUPP, EPERM].contains(number) else {
                    throw FileFailure(number, path)
                }
                break
            }
            total += count
        }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = read(source, &buffer, buffer.count)
            if count == 0 { return total }
            if count < 0 {
                if errno == EINTR { continue }
                throw FileFailure(errno, path)
            }
            try buffer.withUnsafeBytes { try writeAll(target, UnsafeRawBufferPointer(rebasing: $0[..<count]), path) }
            total += Int64(count)
        }
    }
}

extension stat {
    var kind: mode_t { st_mode & S_IFMT }
    var isDirectory: Bool { kind == S_IFDIR }
    var isRegular: Bool { kind == S_IFREG }
    var isLink: Bool { kind == S_IFLNK }
    var permissions: mode_t { st_mode & 0o7777 }
}

/// Four octal digits, as in `0644`.
func octal(_ mode: mode_t) -> String {
    let digits = String(mode & 0o7777, radix: 8)
    return String(repeating: "0", count: 4 - digits.count) + digits
}
