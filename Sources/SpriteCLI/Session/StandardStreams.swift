// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

@preconcurrency import Dispatch
import Glibc
import Sprites

/// Standard input and output of this process, read and written on threads of their own.
///
/// The descriptors stay blocking: they are shared with other programs, which O_NONBLOCK would break.
struct StandardStreams: Sendable {
    private static let inputBytesMax = 128 << 10
    private let inputQueue = DispatchQueue(label: "standard input")
    private let outputQueue = DispatchQueue(label: "standard output")

    /// Some bytes of standard input; empty at its end, and if there is none.
    func read() async -> [UInt8] {
        await withCheckedContinuation { continuation in
            inputQueue.async {
                var buffer = [UInt8](repeating: 0, count: Self.inputBytesMax)
                while true {
                    let count = Glibc.read(0, &buffer, buffer.count)
                    if count < 0, errno == EINTR { continue }
                    if count < 0, errno == EAGAIN {
                        var poll = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
                        _ = Glibc.poll(&poll, 1, -1)
                        continue
                    }
                    return continuation.resume(returning: count > 0 ? Array(buffer[..<count]) : [])
                }
            }
        }
    }

    /// Writes a chunk to the stream it came from, waiting as long as its reader does.
    func write(_ chunk: OutputChunk) async throws {
        let descriptor: Int32 = chunk.stream == .stdout ? 1 : 2
        let number = await withCheckedContinuation { continuation in
            outputQueue.async {
                continuation.resume(returning: chunk.withUnsafeBytes { writeAll(descriptor, $0) })
            }
        }
        if number == 0 { return }
        if number == EPIPE { throw OutputClosed() }
        throw CommandFailure("cannot write the command's output: \(errnoText(number))")
    }
}
