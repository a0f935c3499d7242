// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket

/// Opens WebSockets to the server.
struct WebSocketDialer: Sendable {
    let address: ServerAddress
    let token: String
    let userAgent: String
    let group: any EventLoopGroup
    let tls: NIOSSLContext?
    let proxy: ProxyAddress?
    let onRequest: (@Sendable (String) -> Void)?

    /// One read from the socket; small answers start with 16 KiB. More is slower: it leaves the processor's cache before
    /// it is used (measured without a library: 700 MB/s with 64 KiB, 400 MB/s with 1 MiB).
    static let readBytesMax = 128 << 10

    private enum Outcome: Sendable {
        case open
        case refused(EventLoopFuture<Refusal>)
    }

    /// Connects and adds `handler` behind the frame codec.
    ///
    /// - Throws: ``SpritesError``: the server's own error when it refuses the upgrade.
    func connect(
        _ path: String, timeout: Duration, handler: @escaping @Sendable () -> any ChannelHandler
    ) async throws -> any Channel {
        let start = ContinuousClock.now
        let opened = NIOLockedValueBox<(channel: (any Channel)?, cancelled: Bool)>((nil, false))
        return try await withTaskCancellationHandler {
            do {
                let outcome = try await bootstrap(path, timeout, opened, handler).get()
                guard let channel = opened.withLockedValue({ $0.channel }) else { throw ChannelError.alreadyClosed }
                switch outcome {
                case .open:
                    onRequest?(requestLine("GET", path, "upgraded", since: start))
                    return channel
                case .refused(let future):
                    defer { channel.close(promise: nil) }
                    let refusal = try await future.get()
                    throw serverError(
                        status: Int(refusal.head.status.code), headers: refusal.head.headers, body: refusal.body)
                }
            } catch {
                let state = opened.withLockedValue { $0 }
                state.channel?.close(promise: nil)
                if state.cancelled || Task.isCancelled { throw CancellationError() }
                let error = connectionError(error, address: address)
                let result = "\(error.status ?? 0) \(error.code.rawValue)"
                onRequest?(requestLine("GET", path, result, since: start))
                throw error
            }
        } onCancel: {
            let channel = opened.withLockedValue { state in
                state.cancelled = true
                return state.channel
            }
            channel?.close(promise: nil)
        }
    }

    private func bootstrap(
        _ path: String, _ timeout: Duration,
        _ opened: NIOLockedValueBox<(channel: (any Channel)?, cancelled: Bool)>,
        _ handler: @escaping @Sendable () -> any ChannelHandler
    ) async throws -> EventLoopFuture<Outcome> {
        let readSizes = AdaptiveRecvByteBufferAllocator(minimum: 4 << 10, initial: 16 << 10, maximum: Self.readBytesMax)
        let bootstrap = ClientBootstrap(group: group)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.recvAllocator, value: readSizes)
            .connectTimeout(.seconds(10))
        let (host, port) = proxy.map { ($0.host, $0.port) } ?? (address.host, address.port)
        return try await bootstrap.connect(host: host, port: port) { channel in
            channel.eventLoop.makeCompletedFuture {
                let cancelled = opened.withLockedValue { state in
                    state.channel = channel
                    return state.cancelled
                }
                if cancelled { throw CancellationError() }
                let outcome = try through(channel, path, handler)
                let limit = channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    channel.close(promise: nil)
                }
                outcome.whenComplete { _ in limit.cancel() }
                return outcome
            }
        }
    }

    /// What is done before the first frame: a way through the proxy, TLS, the upgrade.
    private func through(
        _ channel: any Channel, _ path: String, _ handler: @escaping @Sendable () -> any ChannelHandler
    ) throws -> EventLoopFuture<Outcome> {
        guard let proxy else { return try secured(channel, path, handler) }
        let promise = channel.eventLoop.makePromise(of: Void.self)
        let host = address.host.contains(":") ? "[\(address.host)]" : address.host
        let tunnel = ProxyTunnel(to: "\(host):\(address.port)", through: proxy, promise)
        try channel.pipeline.syncOperations.addHandler(tunnel)
        let bound = NIOLoopBound(tunnel, eventLoop: channel.eventLoop)
        return promise.futureResult.flatMap { channel.pipeline.syncOperations.removeHandler(bound.value) }
            .flatMapThrowing { try secured(channel, path, handler) }.flatMap { $0 }
    }

    private func secured(
        _ channel: any Channel, _ path: String, _ handler: @escaping @Sendable () -> any ChannelHandler
    ) throws -> EventLoopFuture<Outcome> {
        if let tls {
            // A literal address cannot be a server name in TLS.
            let isLiteral = (try? SocketAddress(ipAddress: address.host, port: 0)) != nil
            let secure = try NIOSSLClientHandler(context: tls, serverHostname: isLiteral ? nil : address.host)
            try channel.pipeline.syncOperations.addHandler(secure)
        }
        return try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(
            configuration: configuration(path, handler))
    }

    private func configuration(
        _ path: String, _ handler: @escaping @Sendable () -> any ChannelHandler
    ) -> NIOUpgradableHTTPClientPipelineConfiguration<Outcome> {
        let upgrader = Upgrader(opened: { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandlers([WebSocketCodec(), handler()])
                return Outcome.open
            }
        })
        var headers = HTTPHeaders()
        headers.add(name: "Host", value: address.authority)
        headers.add(name: "Authorization", value: "Bearer \(token)")
        headers.add(name: "User-Agent", value: userAgent)
        let upgrade = NIOTypedHTTPClientUpgradeConfiguration<Outcome>(
            upgradeRequestHead: HTTPRequestHead(
                version: .http1_1, method: .GET, uri: address.prefix + path, headers: headers),
            upgraders: [upgrader],
            notUpgradingCompletionHandler: { channel in
                channel.eventLoop.makeCompletedFuture {
                    let promise = channel.eventLoop.makePromise(of: Refusal.self)
                    try channel.pipeline.syncOperations.addHandler(RefusalReader(promise))
                    return Outcome.refused(promise.futureResult)
                }
            })
        var configuration = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: upgrade)
        // The default drops frames that were sent right behind the 101.
        configuration.leftOverBytesStrategy = .forwardBytes
        return configuration
    }
}

/// Takes NIO's handshake, and frames of our own.
private struct Upgrader<Result: Sendable>: NIOTypedHTTPClientProtocolUpgrader {
    let supportedProtocol = "websocket"
    let requiredUpgradeHeaders: [String] = []
    private let handshake: NIOTypedWebSocketClientUpgrader<Result>
    private let opened: @Sendable (any Channel) -> EventLoopFuture<Result>

    init(opened: @escaping @Sendable (any Channel) -> EventLoopFuture<Result>) {
        self.opened = opened
        handshake = NIOTypedWebSocketClientUpgrader(upgradePipelineHandler: { channel, _ in opened(channel) })
    }

    func addCustom(upgradeRequestHeaders: inout HTTPHeaders) {
        handshake.addCustom(upgradeRequestHeaders: &upgradeRequestHeaders)
    }

    func shouldAllowUpgrade(upgradeResponse: HTTPResponseHead) -> Bool {
        handshake.shouldAllowUpgrade(upgradeResponse: upgradeResponse)
    }

    func upgrade(channel: any Channel, upgradeResponse: HTTPResponseHead) -> EventLoopFuture<Result> {
        opened(channel)
    }
}

/// An ordinary HTTP answer in place of the upgrade.
struct Refusal: Sendable {
    var head: HTTPResponseHead
    var body: ByteBuffer
}

/// Collects the answer of a server that refused an upgrade.
private final class RefusalReader: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    /// Error bodies are a few hundred bytes; a proxy's error page may be larger and is cut.
    private static let bodyBytesMax = 64 << 10

    private var promise: EventLoopPromise<Refusal>?
    private var refusal: Refusal?

    init(_ promise: EventLoopPromise<Refusal>) { self.promise = promise }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch Self.unwrapInboundIn(data) {
        case .head(let head):
            refusal = Refusal(head: head, body: ByteBuffer())
        case .body(var part):
            guard let size = refusal?.body.readableBytes, size < Self.bodyBytesMax else { return }
            refusal?.body.writeBuffer(&part)
        case .end:
            finish()
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        promise?.fail(error)
        promise = nil
        context.close(promise: nil)
    }

    private func finish() {
        guard let promise else { return }
        self.promise = nil
        guard let refusal else { return promise.fail(ChannelError.inputClosed) }
        promise.succeed(refusal)
    }
}
