// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import NIOCore
package import NIOHTTP1
import NIOPosix
import SpriteDomain
package import SpriteSystem

/// A TCP connection into a sprite: bytes as they are, or HTTP/1.1 requests and answers.
///
/// Pulled: it reads ahead only a little, so that a slow client holds the service back and not our memory. Closed when
/// the last reference goes. One task reads, one writes.
package final class TargetConnection: Sendable {
    /// What comes from the sprite.
    package enum Part: Sendable {
        case head(HTTPResponseHead)
        /// Bytes of the answer's body, or of the stream.
        case bytes(ByteBuffer)
        /// The end of an answer.
        case end(HTTPHeaders?)
    }

    /// What goes to the sprite.
    package enum Outgoing: Sendable {
        case head(HTTPRequestHead)
        case body(ByteBuffer)
        case end(HTTPHeaders?)
        /// Bytes of the stream, where it is one.
        case bytes(ByteBuffer)
    }

    private let channel: any Channel
    private let handler: NIOLoopBound<TargetHandler>

    private init(channel: any Channel, handler: NIOLoopBound<TargetHandler>) {
        self.channel = channel
        self.handler = handler
    }

    deinit { channel.close(promise: nil) }

    /// Takes over a connected socket.
    package static func make(
        _ socket: Descriptor, isHTTP: Bool, on eventLoop: any EventLoop
    ) async throws -> TargetConnection {
        // The channel owns what it is given, so it gets a descriptor of its own.
        let number = try system("duplicate a socket") { fcntl(socket.number, F_DUPFD_CLOEXEC, 0) }
        return try await ClientBootstrap(group: eventLoop)
            .channelOption(.autoRead, value: false)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 2 << 10, initial: 16 << 10, maximum: 256 << 10)
            )
            .withConnectedSocket(number) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = TargetHandler(eventLoop: channel.eventLoop)
                    try addHandlers(to: channel.pipeline.syncOperations, isHTTP: isHTTP)
                    try channel.pipeline.syncOperations.addHandler(handler)
                    return TargetConnection(
                        channel: channel, handler: NIOLoopBound(handler, eventLoop: channel.eventLoop))
                }
            }
    }

    private static func addHandlers(to pipeline: ChannelPipeline.SynchronousOperations, isHTTP: Bool) throws {
        guard isHTTP else { return try pipeline.addHandler(StreamParts()) }
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = Limits.responseHeadBytesMax
        limits.maxHeaderListSize = Limits.responseHeadBytesMax
        let encoder = HTTPRequestEncoder()
        let decoder = ByteToMessageHandler(
            HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits))
        try pipeline.addHandlers([encoder, decoder, HTTPParts(encoder: encoder, decoder: decoder)])
    }

    /// Everything that has come, or that comes next; empty at the end. Cancelling the task closes the connection.
    package func next() async throws -> [Part] {
        let eventLoop = channel.eventLoop
        return try await withTaskCancellationHandler {
            try await eventLoop.flatSubmit { [handler] in handler.value.next() }.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }

    /// Returns when the kernel has taken it all.
    package func write(_ parts: Outgoing...) async throws {
        guard let last = parts.last else { return }
        for part in parts.dropLast() { channel.write(part, promise: nil) }  // In order; a failure shows in the last.
        try await channel.writeAndFlush(last)
    }

    /// Ends our side; the service still may answer.
    package func finish() async { try? await channel.close(mode: .output) }

    package func close() { channel.close(promise: nil) }

    /// Whether another request may be sent: the last answer is complete and the service has not hung up.
    package func isIdle() async -> Bool {
        let eventLoop = channel.eventLoop
        return (try? await eventLoop.submit { [handler] in handler.value.isIdle }.get()) ?? false
    }
}
