// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Reads a regular file that whoever lives in the sprite may have replaced by anything; nil if it is not one.
///
/// Never waits: a named pipe in its place is opened non-blocking and then refused.
func readRegularFile(_ path: String, bytesMax: Int, followLinks: Bool = true) -> [UInt8]? {
    let flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (followLinks ? 0 : O_NOFOLLOW)
    guard let file = try? Descriptor.open(path, flags) else { return nil }
    var facts = stat()
    guard fstat(file.number, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else { return nil }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 8 << 10)
    while bytes.count < bytesMax {
        let count = read(file.number, &buffer, min(buffer.count, bytesMax - bytes.count))
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { break }
        bytes.append(contentsOf: buffer[..<count])
    }
    return bytes
}

func isDirectory(_ path: String) -> Bool {
    var facts = stat()
    return stat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR
}

/// True for a folder that is this user's, not one behind a link.
func isDirectory(_ path: String, of user: UInt32) -> Bool {
    var facts = stat()
    return lstat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR && facts.st_uid == user
}

/// True for a regular file somebody may execute.
func isProgram(_ path: String) -> Bool {
    var facts = stat()
    return stat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFREG && facts.st_mode & 0o111 != 0
}

/// A line on the console, which is recorded with the sprite's output.
func say(_ text: String) {
    let line = Array("sprite-env: \(text)\n".utf8)
    // Nobody reads it in time, or at all: nothing depends on it.
    _ = Glibc.write(STDERR_FILENO, line, line.count)
}

/// The files in `/etc` that tell the sprite who it is and where names are resolved.
struct HostFiles {
    /// Files that begin with this line are ours to renew; any other belongs to whoever lives in the sprite.
    private static let marker = "# Kept by sprite-env. Remove this line to keep your own changes.\n"
    private static let bytesMax = 64 << 10

    var hostname: String
    var nameServers: [String]

    /// Does what can be done; what stands in the way is the sprite's own affair and must not keep it from starting.
    func write() {
        if mkdir("/etc", 0o755) < 0, errno != EEXIST { return }
        putHostname()
        put(
            "/etc/hosts",
            """
            127.0.0.1 localhost
            127.0.1.1 \(hostname)
            ::1 localhost ip6-localhost ip6-loopback
            ff02::1 ip6-allnodes
            ff02::2 ip6-allrouters

            """)
        if !nameServers.isEmpty {
            put("/etc/resolv.conf", nameServers.map { "nameserver \($0)\n" }.joined())
        }
    }

    /// Programs take the whole file for the name, so it has no marker: it is ours if it holds the name that our
    /// `/etc/hosts` of the last start says. A fork thus gets its own name, and a name that was set inside stays.
    private func putHostname() {
        let path = "/etc/hostname"
        let read = { (path: String) in
            readRegularFile(path, bytesMax: HostFiles.bytesMax, followLinks: false).map {
                String(decoding: $0, as: UTF8.self)
            } ?? ""
        }
        let hosts = read("/etc/hosts")
        let current = read(path)
        let last = hosts.split(separator: "\n").first { $0.hasPrefix("127.0.1.1 ") }?.dropFirst(10) ?? ""
        let isOurs = hosts.hasPrefix(HostFiles.marker) && current == "\(last)\n"
        if current.isEmpty || isOurs { replace(path, Array("\(hostname)\n".utf8), unless: current) }
    }

    private func replace(_ path: String, _ wanted: [UInt8], unless current: String) {
        guard wanted != Array(current.utf8) else { return }
        write(path, wanted)
    }

    private func put(_ path: String, _ text: String) {
        let wanted = Array((HostFiles.marker + text).utf8)
        var facts = stat()
        // A link to nowhere counts as missing: Ubuntu's resolv.conf points to a service that does not run here.
        if stat(path, &facts) == 0, facts.st_size != 0 {
            guard let current = readRegularFile(path, bytesMax: HostFiles.bytesMax, followLinks: false),
                current.starts(with: HostFiles.marker.utf8), current != wanted
            else { return }
        }
        write(path, wanted)
    }

    private func write(_ path: String, _ wanted: [UInt8]) {
        let temporary = "\(path).sprite-env"
        unlink(temporary)
        let number = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard number >= 0 else { return say("cannot write \(path): \(SystemError(errno, "open"))") }
        let file = Descriptor(owning: number)
        guard Glibc.write(file.number, wanted, wanted.count) == wanted.count, rename(temporary, path) == 0 else {
            say("cannot write \(path): \(SystemError(errno, "write"))")
            unlink(temporary)
            return
        }
    }
}
