// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import SpriteDomain

enum ConnectionOutcome: Sendable {
    case http(HTTPConnectionChannel)
    case tunnel(NIOAsyncChannel<ByteBuffer, ByteBuffer>, @Sendable (TunnelConnection) async -> Void)
    case webSocket(WebSocketChannel, WebSocketTraffic, @Sendable (WebSocketConnection) async -> Void)
}

/// Sets a new connection up: HTTP/1.1, whose first request may turn it into a WebSocket.
struct ConnectionPipeline: ServerChildChannel {
    struct Value: ServerChildChannelValue {
        let outcome: EventLoopFuture<ConnectionOutcome>
        let firstRequest: FirstRequest
        let channel: any Channel
        let client: ClientConnection
    }

    let service: APIService

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        do {
            try service.connections.admit(channel)
        } catch {
            // Nothing else would close it.
            channel.close(promise: nil)
            return channel.eventLoop.makeFailedFuture(error)
        }
        return channel.eventLoop.makeCompletedFuture {
            let timing = service.configuration.timing
            try setKeepalive(channel)
            if let certificate = service.configuration.certificate {
                try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: certificate.context))
            }
            let upgrader = ExecUpgrader(timing: timing)
            let firstRequest = FirstRequest()
            let client = ClientConnection(channel)
            let configuration = NIOTypedHTTPServerUpgradeConfiguration<ConnectionOutcome>(
                upgraders: [upgrader],
                notUpgradingCompletionHandler: { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(HTTPConnectionState(client: client))
                        return .http(
                            try HTTPConnectionChannel(
                                wrappingChannelSynchronously: channel,
                                configuration: .init(isOutboundHalfClosureEnabled: true)))
                    }
                })
            // NIO's own limits (80 KB for a request line) are far below the arguments of a command.
            var limits = NIOHTTPDecoderLimitConfiguration()
            limits.maxHeaderFieldSize = Limits.requestHeadBytesMax
            limits.maxHeaderListSize = Limits.requestHeadBytesMax
            limits.maxHeaderFieldCount = Limits.requestHeadersMax
            let encoder = HTTPResponseEncoder()
            let decoder = ByteToMessageHandler(
                HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits))
            let gate = UpgradeGate(
                upgrader: upgrader, firstRequest: firstRequest, headTimeout: TimeAmount(timing.requestHead),
                decide: service.decideUpgrade)
            let upgradeHandler = NIOTypedHTTPServerUpgradeHandler<ConnectionOutcome>(
                httpEncoder: encoder, extraHTTPHandlers: [decoder, gate], upgradeConfiguration: configuration)
            try channel.pipeline.syncOperations.addHandler(
                StallGuard(limit: TimeAmount(timing.stalledClient), logger: service.logger))
            try channel.pipeline.syncOperations.addHandlers([encoder, decoder, gate, upgradeHandler])
            // The client left, or sent garbage, before its first request was decided.
            upgradeHandler.upgradeResultFuture.whenFailure { _ in channel.close(promise: nil) }
            return Value(
                outcome: upgradeHandler.upgradeResultFuture, firstRequest: firstRequest, channel: channel,
                client: client)
        }
    }

    /// Lets the kernel find out that a quiet client's machine is gone, within two minutes.
    private func setKeepalive(_ channel: any Channel) throws {
        guard let options = channel.syncOptions, channel.localAddress?.port != nil else { return }
        try options.setOption(.socketOption(.so_keepalive), value: 1)
        // TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT of linux/tcp.h; the default is two hours.
        for (name, value) in [(4, 60), (5, 15), (6, 4)] as [(CInt, SocketOptionValue)] {
            try options.setOption(.tcpOption(.init(rawValue: name)), value: value)
        }
    }

    func handle(value: Value, logger: Logger) async {
        do {
            switch try await value.outcome.get() {
            case .http(let channel):
                await HTTPConnection(
                    service: service, channel: channel, firstRequest: value.firstRequest, client: value.client
                ).run()
                value.client.left()
            case .tunnel(let channel, let handler):
                try await channel.executeThenClose { inbound, outbound in
                    await handler(TunnelConnection(inbound: inbound, outbound: outbound, channel: channel.channel))
                }
            case .webSocket(let channel, let traffic, let handler):
                try await channel.executeThenClose { inbound, outbound in
                    await handler(
                        WebSocketConnection(
                            inbound: inbound, outbound: outbound, channel: channel.channel, traffic: traffic))
                }
            }
        } catch {
            service.logger.debug("connection ended", metadata: ["error": "\(error)"])
        }
    }
}
