// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOWebSocket
import SpriteAPI
import SpriteDomain

/// The protocol part of a WebSocket server (RFC 6455): checks and joins frames, answers pings, keeps quiet connections
/// alive, closes properly.
///
/// It lives on the event loop, so that pings are answered and deadlines kept whatever the code above waits for.
final class WebSocketEndpoint: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = WebSocketMessage
    typealias OutboundIn = WebSocketOutput
    typealias OutboundOut = ByteBuffer

    private let keepaliveInterval: TimeAmount
    private let closeByClientTimeout: TimeAmount
    private let closeHandshakeTimeout: TimeAmount
    private var fragments: (opcode: WebSocketOpcode, data: ByteBuffer)?
    private var closeSent = false
    /// The peer's Close came, or it broke the protocol: nothing of it is looked at any more.
    private var inputEnded = false
    /// The payload of the last ping, while there is no room to answer it.
    private var waitingPong: ByteBuffer?
    /// When something was last sent; nil before the first message, which must be the session's.
    private var lastSent: NIODeadline?
    private var keepalive: Scheduled<Void>?
    private var keepaliveKind = WebSocketOutput.Keepalive.message
    private var deadline: Scheduled<Void>?
    private var isInPipeline = false

    private let traffic: WebSocketTraffic

    init(timing: APIServerConfiguration.Timing, traffic: WebSocketTraffic) {
        self.traffic = traffic
        keepaliveInterval = TimeAmount(timing.keepalive)
        closeByClientTimeout = TimeAmount(timing.closeByClient)
        closeHandshakeTimeout = TimeAmount(timing.closeHandshake)
    }

    func handlerAdded(context: ChannelHandlerContext) { isInPipeline = true }

    func handlerRemoved(context: ChannelHandlerContext) {
        isInPipeline = false
        cancelTimers()
    }

    func channelInactive(context: ChannelHandlerContext) {
        cancelTimers()
        context.fireChannelInactive()
    }

    private func cancelTimers() {
        keepalive?.cancel()
        deadline?.cancel()
    }

    // MARK: From the client

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !inputEnded else { return }
        let frame = Self.unwrapInboundIn(data)
        guard let maskKey = frame.maskKey else {
            fail(API.CloseCode.protocolError, "frames of a client must be masked", context: context)
            return
        }
        guard !frame.rsv1, !frame.rsv2, !frame.rsv3 else {
            fail(API.CloseCode.protocolError, "no extension was agreed on", context: context)
            return
        }
        var data = frame.data
        data.unmask(maskKey)
        if !frame.opcode.isControlOpcode { traffic.received(data.readableBytes) }
        switch frame.opcode {
        case .ping: answerPing(data, context: context)
        case .pong: break
        case .connectionClose: peerClosed(data, context: context)
        case .text, .binary, .continuation: receive(frame.opcode, data, isLast: frame.fin, context: context)
        default: fail(API.CloseCode.protocolError, "unknown opcode", context: context)
        }
    }

    private func receive(
        _ opcode: WebSocketOpcode, _ data: ByteBuffer, isLast: Bool, context: ChannelHandlerContext
    ) {
        var opcode = opcode
        var data = data
        if opcode == .continuation {
            guard var begun = fragments else {
                fail(API.CloseCode.protocolError, "a continuation without a beginning", context: context)
                return
            }
            fragments = nil
            guard begun.data.readableBytes + data.readableBytes <= Limits.webSocketMessageBytesMax else {
                fail(API.CloseCode.messageTooBig, "the message is too large", context: context)
                return
            }
            begun.data.writeBuffer(&data)
            data = begun.data
            opcode = begun.opcode
        } else if fragments != nil {
            fail(API.CloseCode.protocolError, "a message inside another", context: context)
            return
        }
        guard isLast else {
            fragments = (opcode, data)
            return
        }
        context.fireChannelRead(Self.wrapInboundOut(opcode == .text ? .text(data) : .binary(data)))
    }

    private func answerPing(_ payload: ByteBuffer, context: ChannelHandlerContext) {
        guard !closeSent else { return }
        // A peer that pings and does not read must not fill our memory; answering the last ping is enough.
        guard context.channel.isWritable else {
            waitingPong = payload
            return
        }
        writeFrame(.pong, payload, context: context, promise: nil)
        context.flush()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable, let payload = waitingPong {
            waitingPong = nil
            answerPing(payload, context: context)
        }
        context.fireChannelWritabilityChanged()
    }

    private func peerClosed(_ payload: ByteBuffer, context: ChannelHandlerContext) {
        inputEnded = true
        let channel = context.channel
        if closeSent {
            context.close(promise: nil)
        } else {
            closeSent = true
            let echo = payload.getSlice(at: payload.readerIndex, length: 2) ?? ByteBuffer()
            let sent = context.eventLoop.makePromise(of: Void.self)
            sent.futureResult.whenComplete { _ in channel.close(promise: nil) }
            writeFrame(.connectionClose, echo, context: context, promise: sent)
            context.flush()
            // The peer has said that it wants no more: it need not take what still waits.
            schedule(closeHandshakeTimeout, context) { _, context in context.close(promise: nil) }
        }
        context.fireChannelRead(Self.wrapInboundOut(.closed))
        context.fireChannelReadComplete()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? NIOWebSocketError else {
            context.fireErrorCaught(error)
            return
        }
        if error == .invalidFrameLength {
            fail(API.CloseCode.messageTooBig, "the message is too large", context: context)
        } else {
            fail(API.CloseCode.protocolError, "a broken frame", context: context)
        }
    }

    private func fail(_ code: UInt16, _ reason: String, context: ChannelHandlerContext) {
        guard !inputEnded else { return }
        inputEnded = true
        fragments = nil
        sendClose(code, reason, context: context, promise: nil)
        context.flush()
        schedule(closeHandshakeTimeout, context) { _, context in context.close(promise: nil) }
        context.fireChannelRead(Self.wrapInboundOut(.closed))
        context.fireChannelReadComplete()
    }

    // MARK: To the client

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !closeSent else {
            promise?.succeed()
            return
        }
        switch Self.unwrapOutboundIn(data) {
        case .text(let data):
            writeFrame(.text, data, context: context, promise: promise)
        case .binary(let data):
            writeFrame(.binary, data, context: context, promise: promise)
        case .stream(let stream, let data):
            writeFrame(.binary, prefix: stream, data, context: context, promise: promise)
        case .exit(let code):
            keepalive?.cancel()
            let sent = promise ?? context.eventLoop.makePromise()
            writeFrame(.binary, prefix: API.Stream.exit, ByteBuffer(integer: code), context: context, promise: sent)
            whenDelivered(sent.futureResult, after: closeByClientTimeout, context) { endpoint, context in
                endpoint.sendClose(API.CloseCode.normal, "", context: context, promise: nil)
                context.flush()
            }
            return
        case .close(let code, let reason):
            sendClose(code, reason, context: context, promise: promise)
            return
        case .keepalive(let kind):
            keepaliveKind = kind
            promise?.succeed()
        }
        if lastSent == nil { scheduleKeepalive(keepaliveInterval, context) }
        lastSent = .now()
    }

    private func sendClose(
        _ code: UInt16, _ reason: String, context: ChannelHandlerContext, promise: EventLoopPromise<Void>?
    ) {
        guard !closeSent else {
            promise?.succeed()
            return
        }
        closeSent = true
        keepalive?.cancel()
        var payload = ByteBuffer(integer: code)
        payload.writeString(String(reason.prefix(100)))
        let sent = promise ?? context.eventLoop.makePromise()
        writeFrame(.connectionClose, payload, context: context, promise: sent)
        whenDelivered(sent.futureResult, after: closeHandshakeTimeout, context) { _, context in
            context.close(promise: nil)
        }
    }

    /// Acts some time after a frame, and everything before it, has reached the peer's machine.
    ///
    /// A slow client must not lose output to a deadline: a socket that is closed while the kernel still has bytes to
    /// send is reset by the client's next ping, and the bytes are gone.
    private func whenDelivered(
        _ sent: EventLoopFuture<Void>, after delay: TimeAmount, _ context: ChannelHandlerContext,
        _ action: @escaping @Sendable (WebSocketEndpoint, ChannelHandlerContext) -> Void
    ) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        sent.whenSuccess {
            let (endpoint, context) = bound.value
            // Once the peer has closed there is nothing left to wait for.
            guard endpoint.isInPipeline, !endpoint.inputEnded else { return }
            endpoint.schedule(delay, context) { endpoint, context in
                endpoint.whenDrained(delay, context, action)
            }
        }
    }

    private func whenDrained(
        _ delay: TimeAmount, _ context: ChannelHandlerContext,
        _ action: @escaping @Sendable (WebSocketEndpoint, ChannelHandlerContext) -> Void
    ) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        SendQueue.isEmpty(context.channel).whenComplete { result in
            let (endpoint, context) = bound.value
            guard endpoint.isInPipeline else { return }
            guard (try? result.get()) == false else {
                action(endpoint, context)
                return
            }
            endpoint.schedule(delay, context) { endpoint, context in
                endpoint.whenDrained(delay, context, action)
            }
        }
    }

    /// There is one deadline at a time: each step of closing replaces the one before.
    private func schedule(
        _ delay: TimeAmount, _ context: ChannelHandlerContext,
        _ action: @escaping @Sendable (WebSocketEndpoint, ChannelHandlerContext) -> Void
    ) {
        deadline?.cancel()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        deadline = context.eventLoop.scheduleTask(in: delay) {
            let (endpoint, context) = bound.value
            guard endpoint.isInPipeline else { return }
            action(endpoint, context)
        }
    }

    private func scheduleKeepalive(_ delay: TimeAmount, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        keepalive = context.eventLoop.scheduleTask(in: delay) {
            let (endpoint, context) = bound.value
            endpoint.keepAlive(context)
        }
    }

    private func keepAlive(_ context: ChannelHandlerContext) {
        guard !closeSent, let lastSent else { return }
        let quiet = NIODeadline.now() - lastSent
        guard quiet >= keepaliveInterval else {
            scheduleKeepalive(keepaliveInterval - quiet, context)
            return
        }
        // While there is no room, there is output under way, which keeps the connection alive as well.
        if context.channel.isWritable {
            switch keepaliveKind {
            case .message: writeFrame(.text, ByteBuffer(string: API.keepaliveText), context: context, promise: nil)
            case .ping: writeFrame(.ping, ByteBuffer(), context: context, promise: nil)
            }
            context.flush()
        }
        self.lastSent = .now()
        scheduleKeepalive(keepaliveInterval, context)
    }

    /// Writes one unfragmented, unmasked frame; a large payload goes out as it is, behind a buffer with the header.
    private func writeFrame(
        _ opcode: WebSocketOpcode, prefix: UInt8? = nil, _ payload: ByteBuffer, context: ChannelHandlerContext,
        promise: EventLoopPromise<Void>?
    ) {
        let length = payload.readableBytes + (prefix == nil ? 0 : 1)
        if !opcode.isControlOpcode { traffic.sent(length) }
        let copiesPayload = payload.readableBytes <= 4096
        var header = context.channel.allocator.buffer(capacity: 11 + (copiesPayload ? payload.readableBytes : 0))
        header.writeInteger(0x80 | UInt8(webSocketOpcode: opcode))
        switch length {
        case ...125:
            header.writeInteger(UInt8(length))
        case ...0xFFFF:
            header.writeInteger(UInt8(126))
            header.writeInteger(UInt16(length))
        default:
            header.writeInteger(UInt8(127))
            header.writeInteger(UInt64(length))
        }
        if let prefix { header.writeInteger(prefix) }
        if copiesPayload {
            header.writeImmutableBuffer(payload)
            context.write(Self.wrapOutboundOut(header), promise: promise)
        } else {
            context.write(Self.wrapOutboundOut(header), promise: nil)
            context.write(Self.wrapOutboundOut(payload), promise: promise)
        }
    }
}
