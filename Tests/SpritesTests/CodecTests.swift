// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOEmbedded
import Testing

@testable import Sprites

struct CodecTests {
    /// Messages put together again from their parts: the kind, and the bytes.
    private func messages(_ bytes: [UInt8], inPiecesOf size: Int) throws -> [[UInt8]] {
        let channel = EmbeddedChannel(handler: WebSocketCodec())
        defer { _ = try? channel.finish() }
        var messages: [[UInt8]] = []
        for start in stride(from: 0, to: bytes.count, by: size) {
            try channel.writeInbound(ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)]))
            while let part = try channel.readInbound(as: WebSocketPart.self) {
                if part.isFirst { messages.append([part.opcode.rawValue]) }
                messages[messages.count - 1] += Array(part.data.readableBytesView)
            }
        }
        return messages
    }

    private static let long = [UInt8](repeating: 0x61, count: 66_000)
    private static let stream =
        FakeConnection.text("hello") + FakeConnection.frame(2, []) + FakeConnection.frame(2, [1, 2, 3])
        + FakeConnection.frame(2, Array(long[..<300])) + FakeConnection.frame(2, long) + FakeConnection.frame(9, [7])
        + FakeConnection.text("") + FakeConnection.frame(1, [0x61], isLast: false) + FakeConnection.frame(0, [0x62])
        + FakeConnection.frame(8, [3, 0xE8])

    @Test(arguments: [1, 7, 126, 4096, 1 << 20])
    func `messages are the same however they arrive`(size: Int) throws {
        let expected: [[UInt8]] = [
            [1] + Array("hello".utf8), [2], [2, 1, 2, 3], [2] + Self.long[..<300], [2] + Self.long, [9, 7], [1],
            [1, 0x61, 0x62], [8, 3, 0xE8],
        ]
        #expect(try messages(Self.stream, inPiecesOf: size) == expected)
    }

    @Test(arguments: [
        [0x82, 0x81, 0, 0, 0, 0, 1], [0xC2, 1, 1], [0x83, 0], [0x09, 0], [0x89, 126, 0, 126], [0x80, 0],
        [0x02, 1, 1, 0x82, 1, 1], [0x82, 127, 0, 0, 0, 0, 0xFF, 0, 0, 0], [0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0],
    ])
    func `what breaks the protocol is an error`(bytes: [UInt8]) throws {
        #expect(throws: WebSocketProblem.self) { try messages(bytes, inPiecesOf: bytes.count) }
    }

    @Test(arguments: [0, 1, 7, 8, 125, 126, 65535, 65536, 100_003])
    func `what is sent is masked and whole`(count: Int) throws {
        let channel = EmbeddedChannel(handler: WebSocketCodec())
        defer { _ = try? channel.finish() }
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try channel.writeOutbound(WebSocketMessage(opcode: .binary, data: ByteBuffer(bytes: data)))
        let sent = try channel.readOutbound(as: ByteBuffer.self)
        let frame = try #require(sent).readableBytesView.map { $0 }
        #expect(frame[0] == 0x82)
        #expect(frame[1] & 0x80 != 0)
        let width =
            switch frame[1] & 0x7F {
            case 126: 2
            case 127: 8
            default: 0
            }
        let length = width == 0 ? Int(frame[1] & 0x7F) : frame[2..<2 + width].reduce(0) { $0 << 8 | Int($1) }
        #expect(length == count)
        let mask = Array(frame[(2 + width)..<(6 + width)])
        let unmasked = frame[(6 + width)...].enumerated().map { $1 ^ mask[$0 & 3] }
        #expect(unmasked == data)
    }
}
