// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore

/// Cuts off a client that takes nothing of what waits for it, whatever the connection is used for.
///
/// The kernel does not: a peer that answers probes of a closed window may do so for ever, and meanwhile holds memory, a
/// session's output and, with an open connection, a sprite awake.
final class StallGuard: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let limit: TimeAmount
    private let logger: Logger
    private var timer: Scheduled<Void>?
    private var waitingBytes = 0
    private var lastProgress = NIODeadline.now()

    /// - Parameter limit: Zero or less: nobody is cut off.
    init(limit: TimeAmount, logger: Logger) {
        self.limit = limit
        self.logger = logger
    }

    func flush(context: ChannelHandlerContext) {
        context.flush()
        guard timer == nil, limit > .zero else { return }
        // What the kernel took at once leaves nothing to watch; asking costs less than a timer for every write.
        waitingBytes = bytesWaiting(context)
        guard waitingBytes > 0 else { return }
        lastProgress = .now()
        schedule(context)
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    private func bytesWaiting(_ context: ChannelHandlerContext) -> Int {
        (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    private func schedule(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .nanoseconds(max(1_000_000, limit.nanoseconds / 4))) {
            let (guardian, context) = bound.value
            guardian.look(context)
        }
    }

    private func look(_ context: ChannelHandlerContext) {
        timer = nil
        let waiting = bytesWaiting(context)
        guard waiting > 0, context.channel.isActive else { return }
        if waiting < waitingBytes { lastProgress = .now() }
        waitingBytes = waiting
        guard NIODeadline.now() - lastProgress < limit else {
            logger.notice(
                "client cut off, it takes nothing",
                metadata: ["client.address": "\(context.channel.remoteAddress?.ipAddress ?? "")"])
            return context.close(promise: nil)
        }
        schedule(context)
    }
}
