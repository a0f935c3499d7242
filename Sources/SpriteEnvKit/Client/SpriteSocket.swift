// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// What went wrong between this program and the sprite's API: a sentence for people, and the code to exit with.
struct ClientFailure: Error {
    var message: String
    var exitCode: Int32 = 1
    init(_ message: String, exitCode: Int32 = 1) {
        self.message = message
        self.exitCode = exitCode
    }
}

/// A connection to the sprite's API: the unix socket that the daemon listens on, shown at /.sprite/api.sock.
final class SpriteSocket {
    static let defaultPath = "/.sprite/api.sock"
    /// How long a daemon that is being restarted is waited for.
    private static let patienceMilliseconds = 5000

    let descriptor: Int32
    private var buffer: [UInt8] = []
    private var start = 0

    init() throws {
        let path = getenv("SPRITE_API_SOCKET").map { String(cString: $0) } ?? SpriteSocket.defaultPath
        var waited = 0
        while true {
            let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            guard number >= 0 else { throw ClientFailure("cannot make a socket: \(reason(errno))") }
            let problem = SpriteSocket.connect(number, path)
            if problem == 0 {
                descriptor = number
                return
            }
            close(number)
            guard problem == ECONNREFUSED || problem == ENOENT || problem == EAGAIN,
                waited < SpriteSocket.patienceMilliseconds
            else {
                throw ClientFailure(
                    "cannot reach the sprite's API at \(path): \(reason(problem)); it works inside a sprite only, and "
                        + "while the host's daemon runs: try again, or ask the operator")
            }
            usleep(100_000)
            waited += 100
        }
    }

    deinit { close(descriptor) }

    private static func connect(_ number: Int32, _ path: String) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return ENAMETOOLONG }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return result == 0 ? 0 : errno
    }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count < 0 {
                if errno == EINTR { continue }
                // An answer that came before all was read tells more than the broken pipe does.
                if errno == EPIPE || errno == ECONNRESET { return }
                throw ClientFailure("cannot send to the sprite's API: \(reason(errno))")
            }
            sent += count
        }
    }

    /// Takes what is there, waiting for at least one byte; empty at the end.
    func receive(atMost limit: Int = 64 << 10) throws -> ArraySlice<UInt8> {
        if start == buffer.count { try fill() }
        let end = min(buffer.count, start + limit)
        defer { start = end }
        return buffer[start..<end]
    }

    /// A line without its end; nil at the end of the stream.
    func line(atMost limit: Int = 64 << 10) throws -> String? {
        var line: [UInt8] = []
        while line.count <= limit {
            if start == buffer.count {
                try fill()
                if buffer.isEmpty { return line.isEmpty ? nil : String(decoding: line, as: UTF8.self) }
            }
            if let end = buffer[start...].firstIndex(of: 0x0A) {
                line += buffer[start..<end]
                start = end + 1
                if line.last == 0x0D { line.removeLast() }
                return String(decoding: line, as: UTF8.self)
            }
            line += buffer[start...]
            start = buffer.count
        }
        throw ClientFailure("the sprite's API answered with a line that is too long")
    }

    private func fill() throws {
        if buffer.count != 64 << 10 { buffer = [UInt8](repeating: 0, count: 64 << 10) }
        start = 0
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw ClientFailure("cannot read from the sprite's API: \(reason(errno))") }
            buffer.removeLast(buffer.count - count)
            return
        }
    }
}

func reason(_ number: Int32) -> String { String(cString: strerror(number)) }
