// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A line that a command printed.
public struct OutputLine: Sendable, Hashable {
    /// The stream it came from.
    public var stream: OutputStream
    /// Its bytes without the end of the line: `\n` or, as terminals have it, `\r\n`.
    public var bytes: [UInt8]

    /// Its text; what is not UTF-8 is replaced.
    public var text: String { String(decoding: bytes, as: UTF8.self) }
}

extension RunningCommand {
    /// What it prints, line by line, each stream for itself; to be read by one task, instead of ``output``.
    ///
    /// A last line without an end is one too. A line longer than 16 MiB comes in pieces.
    public var lines: Lines { Lines(output: output) }

    /// The lines of a command's output.
    public struct Lines: AsyncSequence, Sendable {
        /// A line of one stream.
        public typealias Element = OutputLine

        let output: Output

        /// Reads from where the last reader of ``RunningCommand/output`` stopped.
        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(chunks: output.makeAsyncIterator()) }

        /// Takes lines out of chunks.
        public struct AsyncIterator: AsyncIteratorProtocol {
            private static let lineBytesMax = 16 << 20

            var chunks: Output.AsyncIterator
            private var ready: [OutputLine] = []
            private var next = 0
            private var begun: [OutputStream: [UInt8]] = [:]

            init(chunks: Output.AsyncIterator) { self.chunks = chunks }

            /// The next line, or nil at the end.
            public mutating func next() async throws -> OutputLine? {
                while next == ready.count {
                    (ready, next) = ([], 0)
                    guard let chunk = try await chunks.next() else {
                        guard let (stream, bytes) = begun.popFirst() else { return nil }
                        return OutputLine(stream: stream, bytes: bytes)
                    }
                    take(chunk)
                }
                defer { next += 1 }
                return ready[next]
            }

            private mutating func take(_ chunk: OutputChunk) {
                var line = begun.removeValue(forKey: chunk.stream) ?? []
                chunk.withUnsafeBytes { bytes in
                    var rest = bytes[...]
                    while let end = rest.firstIndex(of: 0x0A) {
                        line += rest[..<end]
                        if line.last == 0x0D { line.removeLast() }
                        ready.append(OutputLine(stream: chunk.stream, bytes: line))
                        line = []
                        rest = rest[(end + 1)...]
                    }
                    line += rest
                }
                if line.count > Self.lineBytesMax {
                    ready.append(OutputLine(stream: chunk.stream, bytes: line))
                } else if !line.isEmpty {
                    begun[chunk.stream] = line
                }
            }
        }
    }
}
