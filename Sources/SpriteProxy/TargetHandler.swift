// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1

/// The event loop's side of a ``TargetConnection``: keeps what has come until somebody takes it.
final class TargetHandler: ChannelDuplexHandler {
    typealias InboundIn = TargetConnection.Part
    typealias OutboundIn = TargetConnection.Outgoing
    typealias OutboundOut = TargetConnection.Outgoing

    /// Read ahead of whoever takes it.
    private static let bytesAheadMax = 512 << 10

    private let eventLoop: any EventLoop
    private var waiting: [TargetConnection.Part] = []
    private var bytesWaiting = 0
    private var reader: EventLoopPromise<[TargetConnection.Part]>?
    private var failure: (any Error)?
    private var hasEnded = false
    private var readIsUnderWay = false
    private var isInAnswer = false
    private var context: ChannelHandlerContext?

    init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { readMore(context) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        readMore(context)
        context.fireChannelActive()
    }

    /// Always keeps a read under way while there is room, so that a hang-up is noticed at once.
    private func readMore(_ context: ChannelHandlerContext) {
        guard !readIsUnderWay, !hasEnded, bytesWaiting < Self.bytesAheadMax else { return }
        readIsUnderWay = true
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = Self.unwrapInboundIn(data)
        switch part {
        case .head: isInAnswer = true
        case .bytes(let buffer): bytesWaiting += buffer.readableBytes
        case .end: isInAnswer = false
        }
        waiting.append(part)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        readIsUnderWay = false
        deliver()
        readMore(context)
        context.fireChannelReadComplete()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent { end() }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if failure == nil { failure = error }
        context.close(promise: nil)
    }

    private func end() {
        hasEnded = true
        // The decoder hears of the end first, and ends an answer that has no other end; any other was cut off.
        if isInAnswer, failure == nil { failure = ChannelError.inputClosed }
        deliver()
    }

    private func deliver() {
        guard let reader, !waiting.isEmpty || hasEnded else { return }
        self.reader = nil
        take(for: reader)
    }

    private func take(for promise: EventLoopPromise<[TargetConnection.Part]>) {
        if waiting.isEmpty, let failure { return promise.fail(failure) }
        let parts = waiting
        waiting = []
        bytesWaiting = 0
        promise.succeed(parts)
    }

    func next() -> EventLoopFuture<[TargetConnection.Part]> {
        let promise = eventLoop.makePromise(of: [TargetConnection.Part].self)
        if !waiting.isEmpty || hasEnded || context == nil {
            take(for: promise)
            if let context { readMore(context) }
        } else {
            reader = promise
        }
        return promise.futureResult
    }

    /// Whether another request may be sent.
    var isIdle: Bool {
        !isInAnswer && !hasEnded && failure == nil && waiting.isEmpty && context?.channel.isActive == true
    }
}

/// Between NIO's HTTP codec and the handler above; gives way to ``StreamParts`` when the service agrees to an upgrade.
final class HTTPParts: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias InboundOut = TargetConnection.Part
    typealias OutboundIn = TargetConnection.Outgoing
    typealias OutboundOut = HTTPClientRequestPart

    private let encoder: HTTPRequestEncoder
    private let decoder: ByteToMessageHandler<HTTPResponseDecoder>
    private var isUpgrading = false

    init(encoder: HTTPRequestEncoder, decoder: ByteToMessageHandler<HTTPResponseDecoder>) {
        self.encoder = encoder
        self.decoder = decoder
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch Self.unwrapInboundIn(data) {
        case .head(let head):
            isUpgrading = head.status == .switchingProtocols
            context.fireChannelRead(Self.wrapInboundOut(.head(head)))
        case .body(let buffer):
            context.fireChannelRead(Self.wrapInboundOut(.bytes(buffer)))
        case .end(let trailers):
            context.fireChannelRead(Self.wrapInboundOut(.end(trailers)))
            if isUpgrading { becomeStream(context) }
        }
    }

    private func becomeStream(_ context: ChannelHandlerContext) {
        let pipeline = context.pipeline.syncOperations
        do {
            try pipeline.addHandler(StreamParts(), position: .after(self))
        } catch {
            return context.fireErrorCaught(error)
        }
        // In this order: bytes behind the answer come out of the decoder as it goes.
        pipeline.removeHandler(self, promise: nil)
        pipeline.removeHandler(encoder, promise: nil)
        pipeline.removeHandler(decoder, promise: nil)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part: HTTPClientRequestPart =
            switch Self.unwrapOutboundIn(data) {
            case .head(let head): .head(head)
            case .body(let buffer), .bytes(let buffer): .body(.byteBuffer(buffer))
            case .end(let trailers): .end(trailers)
            }
        context.write(Self.wrapOutboundOut(part), promise: promise)
    }
}

/// A connection that is a stream of bytes.
final class StreamParts: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = TargetConnection.Part
    typealias OutboundIn = TargetConnection.Outgoing
    typealias OutboundOut = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.fireChannelRead(Self.wrapInboundOut(.bytes(Self.unwrapInboundIn(data))))
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch Self.unwrapOutboundIn(data) {
        case .body(let buffer), .bytes(let buffer): context.write(Self.wrapOutboundOut(buffer), promise: promise)
        // There are no requests in a stream.
        case .head, .end: promise?.succeed()
        }
    }
}
