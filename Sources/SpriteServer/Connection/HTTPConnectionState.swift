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

    private let client: ClientConnection
    private var requestsInProgress = 0
    private var isQuiescing = false
    /// The methods of requests that are not answered yet, oldest first, as far as they matter.
    private var isHead: [Bool] = []

    init(client: ClientConnection) { self.client = client }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .head(let head) = Self.unwrapInboundIn(data) {
            requestsInProgress += 1
            isHead.append(head.method == .HEAD)
        }
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
            if !isHead.isEmpty, isHead.removeFirst() {
                // NIO's encoder does not know of HEAD, and would end a body that is not there.
                context.flush()
                promise?.succeed()
            } else {
                context.write(Self.wrapOutboundOut(.end(trailers)), promise: promise)
            }
            if isQuiescing, requestsInProgress <= 0 {
                context.flush()
                context.close(promise: nil)
            }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        client.left()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent {
            isQuiescing = true
            if requestsInProgress <= 0 { context.close(promise: nil) }
        }
        if case .some(.inputClosed) = event as? ChannelEvent { client.inputClosed() }
        context.fireUserInboundEventTriggered(event)
    }
}
