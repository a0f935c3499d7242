// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1

/// Turns our response parts into NIO's, and ends idle connections when the server shuts down.
final class HTTPConnectionState: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = ResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private var requestsInProgress = 0
    private var isQuiescing = false

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .head = Self.unwrapInboundIn(data) { requestsInProgress += 1 }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch Self.unwrapOutboundIn(data) {
        case .head(let head):
            context.write(Self.wrapOutboundOut(.head(head)), promise: promise)
        case .body(let buffer):
            context.write(Self.wrapOutboundOut(.body(.byteBuffer(buffer))), promise: promise)
        case .end(let trailers):
            requestsInProgress -= 1
            context.write(Self.wrapOutboundOut(.end(trailers)), promise: promise)
            if isQuiescing, requestsInProgress <= 0 {
                context.flush()
                context.close(promise: nil)
            }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent {
            isQuiescing = true
            if requestsInProgress <= 0 { context.close(promise: nil) }
        }
        context.fireUserInboundEventTriggered(event)
    }
}
