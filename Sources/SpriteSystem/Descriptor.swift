// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import CLinux
import Glibc

/// An open file descriptor that is closed when the last reference to it goes.
package final class Descriptor: Sendable {
    package let number: Int32
    /// Whether it came from somebody who may have made closing it take long.
    private let isForeign: Bool

    package init(owning number: Int32) { (self.number, isForeign) = (number, false) }

    /// - Parameter number: Of what somebody else sent. The last to close a socket may have to wait for its data to be
    ///   taken (SO_LINGER), for as long as the sender likes: another thread does that.
    package init(received number: Int32) { (self.number, isForeign) = (number, true) }

    deinit {
        if isForeign { closeElsewhere(number) } else { _ = Glibc.close(number) }
    }

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

/// Closes on a thread of its own, one after the other.
private func closeElsewhere(_ number: Int32) {
    var number = number
    // A pipe takes so few bytes whole. If it is full, thousands wait already.
    if closingPipe < 0 || write(closingPipe, &number, 4) != 4 { _ = close(number) }
}

private let closingPipe: Int32 = {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends, 0) == 0 else { return -1 }
    _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
    let reading = ends[0]
    startThread {
        var number: Int32 = -1
        while read(reading, &number, 4) == 4 {
            // Nobody who has it too can have it wait any more but between these two calls.
            var none = linger(l_onoff: 0, l_linger: 0)
            setsockopt(number, SOL_SOCKET, SO_LINGER, &none, socklen_t(MemoryLayout<linger>.size))
            _ = close(number)
        }
    }
    return ends[1]
}()
