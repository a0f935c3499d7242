// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import Glibc

/// An open file descriptor that is closed when the last reference to it goes.
package final class Descriptor: Sendable {
    package let number: Int32

    package init(owning number: Int32) { self.number = number }

    deinit { _ = Glibc.close(number) }

    package static func open(_ path: String, _ flags: Int32, mode: mode_t = 0o600) throws -> Descriptor {
        Descriptor(owning: try system("open \(path)") { Glibc.open(path, flags | O_CLOEXEC, mode) })
    }
}

/// Reads a small file, such as one of /proc or a cgroup, in whole.
package func readSmallFile(_ path: String, bytesMax: Int = 1 << 20) throws -> String {
    let file = try Descriptor.open(path, O_RDONLY)
    var bytes = [UInt8]()
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while bytes.count < bytesMax {
        let count = read(file.number, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw SystemError(errno, "read \(path)") }
        if count == 0 { break }
        bytes.append(contentsOf: buffer[..<count])
    }
    return String(decoding: bytes, as: UTF8.self)
}

/// Writes text to an existing file, such as one of a cgroup, in one write(2).
package func writeSmallFile(_ path: String, _ text: String, flags: Int32 = O_WRONLY, mode: mode_t = 0o644) throws {
    let file = try Descriptor.open(path, flags, mode: mode)
    var text = text
    try text.withUTF8 { bytes in
        let count = write(file.number, bytes.baseAddress, bytes.count)
        guard count == bytes.count else { throw SystemError(count < 0 ? errno : EIO, "write \(path)") }
    }
}
