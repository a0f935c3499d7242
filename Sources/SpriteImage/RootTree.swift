// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// open(2) for a name and not its content; 010000000 on every architecture that btrfs and crun are on here.
private let O_PATH: Int32 = 0x20_0000

/// The root filesystem of a base that is being made, whose links may be hostile.
///
/// Every path is resolved as after chroot(2): no link and no `..` leads out of it. Nobody else changes the tree.
struct RootTree: Sendable {
    let root: Descriptor
    let path: String

    init(_ path: String) throws {
        self.path = path
        root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
    }

    func open(_ path: String, _ flags: Int32, mode: mode_t = 0o644) throws -> Descriptor {
        Descriptor(owning: try checked(clinux_open_in_root(root.number, path, flags, mode), "open \(path) in the base"))
    }

    func exists(_ path: String) -> Bool { (try? open(path, O_PATH)) != nil }

    func isDirectory(_ path: String) -> Bool { (try? open(path, O_PATH | O_DIRECTORY)) != nil }

    /// Like ``isDirectory(_:)``, but not for a link to one.
    func isFolderItself(_ path: String) -> Bool { (try? open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW)) != nil }

    /// A regular file for reading. Looked at before it is opened: that of a device alone may do something.
    func regularFile(_ path: String) -> Descriptor? {
        guard let name = try? open(path, O_PATH) else { return nil }
        var facts = stat()
        guard fstat(name.number, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else { return nil }
        return try? Descriptor.open("/proc/self/fd/\(name.number)", O_RDONLY)
    }

    /// The content of a regular file, or nil if there is none.
    func read(_ path: String, bytesMax: Int = 8 << 20) -> String? {
        guard let file = regularFile(path) else { return nil }
        return try? readSmallFile("/proc/self/fd/\(file.number)", bytesMax: bytesMax)
    }

    /// Makes the file anew, in a directory that is made if need be; a link in its place is replaced, not followed.
    func write(
        _ path: String, _ text: String, mode: mode_t = 0o644, owner: uid_t = 0, group: gid_t = 0
    ) throws {
        let (parent, name) = try parent(path)
        unlinkat(parent.number, name, 0)
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let number = try system("create \(path) in the base") { openat(parent.number, name, flags, mode) }
        let file = Descriptor(owning: number)
        let bytes = Array(text.utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(file.number, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw SystemError(count < 0 ? errno : EIO, "write \(path) in the base") }
            written += count
        }
        try system("set owner of \(path)") { fchown(file.number, owner, group) }
        try system("set mode of \(path)") { fchmod(file.number, mode) }
    }

    /// Adds to a file, through whatever links lead to it; makes it if it is not there.
    func append(_ path: String, _ text: String) throws {
        let file = try open(path, O_WRONLY | O_APPEND | O_NONBLOCK)
        var facts = stat()
        guard fstat(file.number, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else {
            throw SystemError(EINVAL, "append to \(path) in the base")
        }
        let bytes = Array(text.utf8)
        let count = bytes.withUnsafeBytes { Glibc.write(file.number, $0.baseAddress, $0.count) }
        guard count == bytes.count else { throw SystemError(count < 0 ? errno : EIO, "append to \(path) in the base") }
    }

    /// Makes a directory and those above it; the ones that are there stay as they are.
    func makeDirectory(_ path: String, mode: mode_t = 0o755, owner: uid_t = 0, group: gid_t = 0) throws {
        if isDirectory(path) { return }
        let (parent, name) = try parent(path)
        if unlinkat(parent.number, name, 0) != 0, errno != ENOENT {
            throw SystemError(errno, "replace \(path) in the base")
        }
        try system("make \(path) in the base") { mkdirat(parent.number, name, mode) }
        try system("set owner of \(path)") { fchownat(parent.number, name, owner, group, AT_SYMLINK_NOFOLLOW) }
        try system("set mode of \(path)") { fchmodat(parent.number, name, mode, 0) }
    }

    /// Like ``makeDirectory(_:mode:owner:group:)``, but in place of a link too, wherever that leads.
    ///
    /// For what is mounted on: an OCI runtime takes the way that the link shows, out of the root too.
    func makeMountPoint(_ path: String, mode: mode_t = 0o755) throws {
        if !isFolderItself(path) { remove(path) }
        try makeDirectory(path, mode: mode)
    }

    func link(_ path: String, to target: String) throws {
        let (parent, name) = try parent(path)
        unlinkat(parent.number, name, 0)
        try system("link \(path) in the base") { symlinkat(target, parent.number, name) }
    }

    /// Removes a file or link, if it is there.
    func remove(_ path: String) {
        guard let slash = path.lastIndex(of: "/"), let parent = try? open(String(path[...slash]), O_PATH | O_DIRECTORY)
        else { return }
        unlinkat(parent.number, String(path[path.index(after: slash)...]), 0)
    }

    /// Removes whatever is there, with everything below it, without following a link.
    func removeTree(_ path: String) throws {
        let trimmed = path.hasPrefix("/") ? path : "/\(path)"
        guard let slash = trimmed.lastIndex(of: "/") else { return }
        let name = String(trimmed[trimmed.index(after: slash)...])
        guard name != "", name != ".", name != ".." else { throw SystemError(EINVAL, "remove \(path) in the base") }
        guard let parent = try? open(String(trimmed[...slash]), O_RDONLY | O_DIRECTORY) else { return }
        try runTool(
            "rm", ["-rf", "--one-file-system", "--", name], directory: "/proc/\(getpid())/fd/\(parent.number)")
    }

    /// Empties a directory, if there is one at that path.
    func emptyDirectory(_ path: String) throws {
        guard let folder = try? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) else { return }
        try runTool(
            "find", [".", "-xdev", "-mindepth", "1", "-delete"],
            directory: "/proc/\(getpid())/fd/\(folder.number)")
    }

    private func parent(_ path: String) throws -> (Descriptor, String) {
        let trimmed = path.hasPrefix("/") ? path : "/\(path)"
        guard let slash = trimmed.lastIndex(of: "/"), trimmed.index(after: slash) < trimmed.endIndex else {
            throw SystemError(EINVAL, "open the folder of \(path) in the base")
        }
        let folder = String(trimmed[..<slash])
        if !folder.isEmpty { try makeDirectory(folder) }
        return (
            try open(folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY),
            String(trimmed[trimmed.index(after: slash)...])
        )
    }
}
