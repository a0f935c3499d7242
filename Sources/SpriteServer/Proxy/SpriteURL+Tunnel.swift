// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOHTTP1
import ServiceLifecycle
import SpriteDomain
import SpriteProxy
import Synchronization

/// A connection that has become a stream of bytes.
struct TunnelConnection: Sendable {
    let inbound: NIOAsyncChannelInboundStream<ByteBuffer>
    let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    let channel: any Channel
}

/// A service's answer to an upgrade it refused, as far as it has come.
struct AnsweredUpgrade: Sendable {
    let target: SpriteTarget
    let parts: [TargetConnection.Part]
}

extension APIService {
    /// Asks the service behind a sprite's URL for a WebSocket, with the client's own handshake.
    func decideTunnel(_ head: HTTPRequestHead, _ text: String, _ channel: any Channel) async -> UpgradeDecision {
        let (trace, parent) = TraceContext.of(head.headers)
        do {
            let (name, grant) = try await checkAccess(text, head)
            let target = try await TraceContext.$current.withValue(trace) {
                try await self.target(name, on: channel.eventLoop)
            }
            let outgoing = forwarded(head, isUpgrade: true, client: channel.remoteAddress)
            try await target.connection.write(.head(outgoing), .end(nil))
            let parts = try await target.connection.next()
            guard case .head(let answer) = parts.first else {
                throw SpriteError(.badGateway, "the server in sprite '\(name)' closed the connection without an answer")
            }
            guard answer.status == .switchingProtocols else {
                return .answered(AnsweredUpgrade(target: target, parts: parts))
            }
            let (start, time) = (ContinuousClock.now, Timestamp.now())
            return .tunnel(headers: withoutHopByHop(answer.headers)) { connection in
                if let grant { live.begin(grant, connection.channel) }
                let bytes = await copyBothWays(connection, target, begun: parts)
                if let grant { live.end(grant, connection.channel) }
                recordFromSprite(
                    text, head, connection.channel.remoteAddress, status: answer.status.code, bytesIn: bytes.in,
                    bytesOut: bytes.out, since: start, time: time, id: nil, trace: trace, parent: parent)
            }
        } catch {
            return .refuse(error)
        }
    }

    /// - Returns: How many bytes went through after the handshake.
    private func copyBothWays(
        _ client: TunnelConnection, _ target: SpriteTarget, begun: [TargetConnection.Part]
    ) async -> (in: Int, out: Int) {
        let stream = target.connection
        let counts = (in: ByteCount(), out: ByteCount())
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    for try await bytes in client.inbound {
                        counts.in.add(bytes.readableBytes)
                        try await stream.write(.bytes(bytes))
                    }
                } catch {
                    logger.trace("tunnel input ended", metadata: ["error": "\(error)"])
                }
                await stream.finish()
            }
            group.addTask {
                do {
                    try await cancelWhenGracefulShutdown {
                        var parts = begun
                        while !parts.isEmpty {
                            for case .bytes(let bytes) in parts {
                                try await client.outbound.write(bytes)
                                counts.out.add(bytes.readableBytes)
                            }
                            parts = try await stream.next()
                        }
                    }
                } catch {
                    logger.trace("tunnel output ended", metadata: ["error": "\(error)"])
                }
                client.outbound.finish()
            }
            await group.next()
            let deadline = client.channel.eventLoop.scheduleTask(in: TimeAmount(Limits.halfClosedTimeout)) {
                stream.close()
                client.channel.close(promise: nil)
            }
            await group.waitForAll()
            deadline.cancel()
        }
        stream.close()
        target.use.end()
        return (counts.in.value, counts.out.value)
    }
}

/// Bytes that went one way.
private final class ByteCount: Sendable {
    private let count = Mutex(0)
    func add(_ bytes: Int) { count.withLock { $0 += bytes } }
    var value: Int { count.withLock { $0 } }
}
