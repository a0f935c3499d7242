// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteDomain

/// Closes a connection from inside that does not deliver a whole request in time, or is not used.
///
/// The clock runs whenever nothing waits for an answer: from the start, and from the end of each answer.
final class InsideDeadline: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private var unanswered = 0
    private var isExempt = false
    private var deadline: Scheduled<Void>?

    func handlerAdded(context: ChannelHandlerContext) { arm(context) }
    func handlerRemoved(context: ChannelHandlerContext) { deadline?.cancel() }

    private func arm(_ context: ChannelHandlerContext) {
        deadline?.cancel()
        guard unanswered == 0, !isExempt else { return }
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: TimeAmount(Limits.insideRequestTimeout)) {
            channel.close(promise: nil)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch Self.unwrapInboundIn(data) {
        case .head(let head):
            // Its body is a conversation that lasts as long as the program that holds it.
            if head.uri == InsideRoute.conversationPath {
                isExempt = true
                deadline?.cancel()
            }
        case .body: break
        case .end:
            unanswered += 1
            deadline?.cancel()
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .end = Self.unwrapOutboundIn(data) {
            unanswered = max(0, unanswered - 1)
            arm(context)
        }
        context.write(data, promise: promise)
    }
}
