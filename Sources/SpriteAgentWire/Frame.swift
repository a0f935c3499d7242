// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Messages between the daemon and PID 1 of a sprite, on a unix stream socket. Integers are little-endian.
//
// | offset | bytes | field                                                                      |
// |--------|-------|----------------------------------------------------------------------------|
// | 0      | 4     | length of the body                                                         |
// | 4      | 1     | type of the message                                                        |
// | 5      | 1     | number of descriptors that came with the message (SCM_RIGHTS), in order    |
// | 6      | 2     | zero                                                                       |
// | 8      | …     | body: fields in the order below, a text is a u32 length and its UTF-8      |
//
// To PID 1:
//
// | type | message    | body                                                           | descriptors              |
// |------|------------|----------------------------------------------------------------|--------------------------|
// | 1    | setup      | u16 version, text host name, list of texts: name servers       |                          |
// | 2    | spawn      | u64 session, u8 flags (1 terminal, 2 input), u16 rows,         | pipes: stdout read and   |
// |      |            | u16 columns, text path ("" = argv[0]), list argv, list         | write, stderr read and   |
// |      |            | environment, text directory ("" = home), text user ("" =       | write, with input: stdin |
// |      |            | sprite)                                                        | read and write;          |
// |      |            |                                                                | terminal: relay read,    |
// |      |            |                                                                | write                    |
// | 3    | signal     | u64 session, u32 number                                        |                          |
// | 4    | closeInput | u64 session                                                    |                          |
// | 5    | release    | u64 session                                                    |                          |
// | 6    | shutdown   |                                                                |                          |
//
// From PID 1:
//
// | type | message     | body                                                          | descriptors              |
// |------|-------------|---------------------------------------------------------------|--------------------------|
// | 1    | hello       | u16 version, u64 highest session id so far, u32 number of     |                          |
// |      |             | `session` messages that follow                                |                          |
// | 2    | session     | u64 session, u32 process, u8 flags as above, u8 state         | pipes: stdout read,      |
// |      |             | (0 runs, 1 exited, 2 signaled), u8 status                     | stderr read, with input: |
// |      |             |                                                               | stdin write; terminal:   |
// |      |             |                                                               | master, relay read, write|
// | 3    | spawned     | u64 session, u32 process, text resolved path, text directory  | terminal: master         |
// | 4    | spawnFailed | u64 session, u8 stage, u32 errno, text                        |                          |
// | 5    | ended       | u64 session, u8 state (1, 2), u8 status                       |                          |

/// Version of the messages; both sides come from one release, so a difference is refused.
package let agentWireVersion: UInt16 = 1

/// The session that is no command: what comes on PID 1's own standard output and error. It ends with the sandbox.
package let agentConsoleSession: UInt64 = 0

/// The other side broke the form of the messages; nothing more can be understood on this connection.
package enum WireError: Error, Sendable, Hashable {
    /// A field goes beyond the end of the body.
    case truncated
    /// A length is over its limit.
    case tooLong(Int, limit: Int)
    case unknownType(UInt8)
    /// A field holds a value that has no meaning.
    case badValue(String)
    /// Bytes are left after the last field.
    case trailingBytes(Int)
    /// The message says it has descriptors that did not come.
    case missingDescriptors
}

/// One message as it lies on the wire.
package struct Frame: Sendable, Hashable {
    package static let headerBytes = 8
    package var type: UInt8
    package var descriptorCount: UInt8
    package var body: [UInt8]

    package init(type: UInt8, descriptorCount: UInt8 = 0, body: [UInt8]) {
        self.type = type
        self.descriptorCount = descriptorCount
        self.body = body
    }

    package func encoded() -> [UInt8] {
        var writer = WireWriter()
        writer.bytes.reserveCapacity(Frame.headerBytes + body.count)
        writer.u32(UInt32(truncatingIfNeeded: body.count))
        writer.u8(type)
        writer.u8(descriptorCount)
        writer.u16(0)
        writer.bytes.append(contentsOf: body)
        return writer.bytes
    }
}

/// Cuts a stream of bytes into frames.
package struct FrameDecoder: Sendable {
    private var buffer: [UInt8] = []
    private var consumed = 0
    private let bodyBytesMax: Int

    package init(bodyBytesMax: Int) { self.bodyBytesMax = bodyBytesMax }

    /// Bytes that wait for the rest of their frame.
    package var waitingBytes: Int { buffer.count - consumed }

    package mutating func append(_ bytes: some Sequence<UInt8>) { buffer.append(contentsOf: bytes) }

    /// The next whole frame, or nil if more bytes are needed.
    ///
    /// - Throws: ``WireError/tooLong(_:limit:)`` as soon as the header says so, before the body is collected.
    package mutating func next() throws(WireError) -> Frame? {
        guard waitingBytes >= Frame.headerBytes else { return nil }
        var header = WireReader(buffer[consumed..<(consumed + Frame.headerBytes)])
        let length = Int(try header.u32())
        let type = try header.u8()
        let descriptorCount = try header.u8()
        guard try header.u16() == 0 else { throw .badValue("reserved bytes of the header are not zero") }
        guard length <= bodyBytesMax else { throw .tooLong(length, limit: bodyBytesMax) }
        let first = consumed + Frame.headerBytes
        guard buffer.count - first >= length else {
            buffer.reserveCapacity(first + length)
            return nil
        }
        let body = Array(buffer[first..<(first + length)])
        consumed = first + length
        if consumed == buffer.count {
            // A large message must not leave its memory behind: PID 1 is counted in single megabytes.
            if buffer.capacity > 64 << 10 { buffer = [] } else { buffer.removeAll(keepingCapacity: true) }
            consumed = 0
        } else if consumed > 64 << 10 {
            buffer.removeFirst(consumed)
            consumed = 0
        }
        return Frame(type: type, descriptorCount: descriptorCount, body: body)
    }
}
