// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore

/// Which of a command's two streams bytes came from.
public enum OutputStream: UInt8, Sendable, Hashable {
    /// Standard output; everything of a terminal.
    case stdout = 1
    /// Standard error.
    case stderr = 2
}

/// Some bytes of a command's output, in the order they were written to their stream.
///
/// Copying a chunk copies a reference; the bytes are those that were read from the connection.
public struct OutputChunk: Sendable, Hashable {
    /// The stream they came from.
    public var stream: OutputStream
    let buffer: ByteBuffer

    /// The number of bytes; never 0.
    public var count: Int { buffer.readableBytes }

    /// The bytes, copied.
    public var bytes: [UInt8] { Array(buffer.readableBytesView) }

    /// The bytes as text; what is not UTF-8 is replaced, as is a character that is cut at the chunk's edge.
    public var text: String { String(buffer: buffer) }

    /// Gives access to the bytes without copying them.
    public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try buffer.withUnsafeReadableBytes(body)
    }
}
