// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore

/// What a frame holds (RFC 6455, section 5.2).
enum WebSocketOpcode: UInt8, Sendable {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10
}

/// Something that was received: a whole text or control message, or a piece of a binary one.
struct WebSocketPart: Sendable {
    var opcode: WebSocketOpcode
    var data: ByteBuffer
    /// Whether a message begins with it; always so for what comes whole.
    var isFirst = true
    /// Whether a message ends with it.
    var isLast = true
}

/// A whole message to be sent.
struct WebSocketMessage: Sendable {
    var opcode: WebSocketOpcode
    var data: ByteBuffer

    /// What says goodbye: Close 1000.
    static var closing: WebSocketMessage { WebSocketMessage(opcode: .close, data: ByteBuffer(bytes: [0x03, 0xE8])) }
}

/// The peer did not follow RFC 6455.
struct WebSocketProblem: Error, CustomStringConvertible {
    var description: String
}

/// Frames of a client, without extensions.
///
/// A binary message is handed on in pieces as it arrives: slices of what one read of the socket brought. So no byte of
/// bulk output is copied here, and no message has to be in memory as a whole.
final class WebSocketCodec: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = WebSocketPart
    typealias OutboundIn = WebSocketMessage
    typealias OutboundOut = ByteBuffer

    /// The largest message taken from the server, which is the contract's own limit.
    static let messageBytesMax = 16 << 20
    private static let controlBytesMax = 125

    /// The bytes of a frame's head that have arrived; at most ten.
    private var head: [UInt8] = []
    /// What is still to come of the frame whose head was read; nil between frames.
    private var remaining: Int?
    private var opcode = WebSocketOpcode.continuation
    private var isFinal = true
    /// The kind of the message that has begun and not ended, if there is one.
    private var message: WebSocketOpcode?
    private var messageBytes = 0
    private var isFirst = true
    /// A text or control message that has not arrived in whole.
    private var collected = ByteBuffer()
    private var texts = ByteBuffer()
    private var isBroken = false

    init() { head.reserveCapacity(10) }

    // MARK: Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = Self.unwrapInboundIn(data)
        while !isBroken {
            do {
                if remaining == nil, try !readHead(&bytes) { return }
                guard try readBody(&bytes, context) else { return }
            } catch {
                isBroken = true
                context.fireErrorCaught(error)
            }
        }
    }

    /// - Returns: Whether the head is complete.
    private func readHead(_ bytes: inout ByteBuffer) throws -> Bool {
        while head.count < headLength {
            guard let byte = bytes.readInteger(as: UInt8.self) else { return false }
            head.append(byte)
        }
        guard head[0] & 0x70 == 0, head[1] & 0x80 == 0, let opcode = WebSocketOpcode(rawValue: head[0] & 0x0F) else {
            throw WebSocketProblem(description: "a frame has a head that no server sends")
        }
        let length = head.count == 2 ? UInt64(head[1]) : head[2...].reduce(0) { $0 << 8 | UInt64($1) }
        isFinal = head[0] & 0x80 != 0
        self.opcode = opcode
        head.removeAll(keepingCapacity: true)
        if opcode.rawValue >= WebSocketOpcode.close.rawValue {
            guard isFinal, length <= UInt64(Self.controlBytesMax) else {
                throw WebSocketProblem(description: "a control frame is too long or in pieces")
            }
        } else {
            guard (opcode == .continuation) == (message != nil) else {
                throw WebSocketProblem(description: "a message begins before the last one ended, or goes on after it")
            }
            if opcode != .continuation { (message, messageBytes, isFirst) = (opcode, 0, true) }
            guard length <= UInt64(Self.messageBytesMax - messageBytes) else {
                throw WebSocketProblem(description: "a message is longer than \(Self.messageBytesMax) bytes")
            }
            messageBytes += Int(length)
        }
        remaining = Int(length)
        return true
    }

    /// How long the head is, as far as is known.
    private var headLength: Int {
        guard head.count >= 2 else { return 2 }
        return switch head[1] & 0x7F {
        case 126: 4
        case 127: 10
        default: 2
        }
    }

    /// - Returns: Whether the frame is complete.
    private func readBody(_ bytes: inout ByteBuffer, _ context: ChannelHandlerContext) throws -> Bool {
        guard let wanted = remaining, let piece = bytes.readSlice(length: min(wanted, bytes.readableBytes)) else {
            return false
        }
        if piece.readableBytes == 0, wanted > 0 { return false }
        remaining = wanted - piece.readableBytes
        let isComplete = remaining == 0
        if isComplete { remaining = nil }
        if opcode.rawValue >= WebSocketOpcode.close.rawValue {
            collected.writeImmutableBuffer(piece)
            guard isComplete else { return false }
            let whole = collected
            collected = ByteBuffer()
            fire(WebSocketPart(opcode: opcode, data: whole), context)
        } else if message == .text {
            texts.writeImmutableBuffer(piece)
            guard isComplete else { return false }
            guard isFinal else { return true }
            let whole = texts
            (texts, message) = (ByteBuffer(), nil)
            fire(WebSocketPart(opcode: .text, data: whole), context)
        } else {
            let isLast = isComplete && isFinal
            let part = WebSocketPart(opcode: .binary, data: piece, isFirst: isFirst, isLast: isLast)
            isFirst = false
            if isLast { message = nil }
            fire(part, context)
        }
        return isComplete
    }

    private func fire(_ part: WebSocketPart, _ context: ChannelHandlerContext) {
        context.fireChannelRead(Self.wrapInboundOut(part))
    }

    // MARK: Writing

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let message = Self.unwrapOutboundIn(data)
        let size = message.data.readableBytes
        var frame = context.channel.allocator.buffer(capacity: size + 14)
        frame.writeInteger(0x80 | message.opcode.rawValue)
        switch size {
        case ..<126:
            frame.writeInteger(0x80 | UInt8(size))
        case ..<65536:
            frame.writeMultipleIntegers(UInt8(0x80 | 126), UInt16(size))
        default:
            frame.writeMultipleIntegers(UInt8(0x80 | 127), UInt64(size))
        }
        let mask = UInt32.random(in: .min ... .max)
        frame.writeInteger(mask)
        let start = frame.writerIndex
        frame.writeImmutableBuffer(message.data)
        Self.mask(&frame, from: start, mask)
        context.write(Self.wrapOutboundOut(frame), promise: promise)
    }

    /// Eight bytes at a time: byte by byte it would cost more than all the rest of sending.
    private static func mask(_ frame: inout ByteBuffer, from start: Int, _ mask: UInt32) {
        let wide = UInt64(mask.bigEndian) | UInt64(mask.bigEndian) << 32
        let offset = start - frame.readerIndex
        frame.withUnsafeMutableReadableBytes { bytes in
            let body = UnsafeMutableRawBufferPointer(rebasing: bytes[offset...])
            var at = 0
            while at + 8 <= body.count {
                let word = body.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                body.storeBytes(of: word ^ wide, toByteOffset: at, as: UInt64.self)
                at += 8
            }
            while at < body.count {
                body[at] ^= UInt8(truncatingIfNeeded: wide >> (UInt64(at & 7) * 8))
                at += 1
            }
        }
    }
}
