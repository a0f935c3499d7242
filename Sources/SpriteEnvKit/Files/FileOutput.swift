// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// Standard output, as the daemon reads it: one line of JSON, then, for what has a body, the body's bytes.
///
/// The body waits for the end of standard input: what is printed before anybody listens is kept only in part.
final class FileOutput {
    private static let bufferBytes = 256 << 10
    private var buffer: [UInt8] = []
    /// The line is out; an error can no longer take its place.
    private(set) var hasBegun = false

    init() { buffer.reserveCapacity(FileOutput.bufferBytes) }

    /// The result, or the line before the body.
    func line(_ json: JSONText) throws {
        hasBegun = true
        var bytes = json.bytes
        bytes.append(0x0A)
        try write(bytes)
        try flush()
    }

    func beginBody(_ json: JSONText) throws {
        try line(json)
        var byte: UInt8 = 0
        while true {
            let count = read(STDIN_FILENO, &byte, 1)
            if count == 0 { return }
            if count < 0, errno != EINTR { throw FileFailure(errno, "standard input") }
        }
    }

    func write(_ bytes: some Collection<UInt8>) throws {
        buffer.append(contentsOf: bytes)
        if buffer.count >= FileOutput.bufferBytes { try flush() }
    }

    func flush() throws {
        try buffer.withUnsafeBytes { try writeAll(STDOUT_FILENO, $0, "standard output") }
        buffer.removeAll(keepingCapacity: true)
    }
}

func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, _ path: @autoclosure () -> String) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
        if count < 0 {
            if errno == EINTR { continue }
            throw FileFailure(errno, path())
        }
        rest = rest.dropFirst(count)
    }
}
