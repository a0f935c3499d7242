// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOWebSocket
import SpriteDomain

/// What to do with a request that asks for a WebSocket.
enum UpgradeDecision: Sendable {
    case accept(headers: HTTPHeaders, handler: @Sendable (WebSocketConnection) async -> Void)
    /// From here on, bytes go both ways as they are.
    case tunnel(headers: HTTPHeaders, handler: @Sendable (TunnelConnection) async -> Void)
    /// A service in a sprite said no; its answer is passed on.
    case answered(AnsweredUpgrade)
    /// It is answered as an ordinary request, with this error if there is one.
    case refuse((any Error)?)
}

/// What the gate tells the connection about its first request.
final class FirstRequest: Sendable {
    private let state = NIOLockedValueBox<(refusal: (any Error)?, askedForUpgrade: Bool)>((nil, false))
    private let answered = NIOLockedValueBox<AnsweredUpgrade?>(nil)

    func setAnswered(_ answer: AnsweredUpgrade) { answered.withLockedValue { $0 = answer } }

    func takeAnswered() -> AnsweredUpgrade? {
        answered.withLockedValue { answered in
            defer { answered = nil }
            return answered
        }
    }

    func refuse(_ error: (any Error)?) { state.withLockedValue { $0.refusal = error } }
    func markUpgrade() { state.withLockedValue { $0.askedForUpgrade = true } }

    var refusal: (any Error)? { state.withLockedValue { $0.refusal } }
    /// NIO's decoder stops for good after a request that asked for an upgrade, so the connection has to end.
    var askedForUpgrade: Bool { state.withLockedValue { $0.askedForUpgrade } }
}

/// Decides, between the HTTP decoder and NIO's upgrade handler, whether the first request becomes a WebSocket.
///
/// NIO's handler swallows a request with an `Upgrade` header that no upgrader accepts: the head is never replayed, so
/// the client waits for ever, or the connection dies (`Upgrade: h2c`). So the decision is taken here, before, and a
/// head that will not be upgraded loses its `Upgrade` header before NIO looks at it.
final class UpgradeGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case waiting
        case deciding([NIOAny])
        case done
    }

    private var state = State.waiting
    private var headDeadline: Scheduled<Void>?
    private let headTimeout: TimeAmount
    private let upgrader: ExecUpgrader
    private let firstRequest: FirstRequest
    private let decide: @Sendable (HTTPRequestHead, any Channel) async -> UpgradeDecision

    init(
        upgrader: ExecUpgrader, firstRequest: FirstRequest, headTimeout: TimeAmount,
        decide: @escaping @Sendable (HTTPRequestHead, any Channel) async -> UpgradeDecision
    ) {
        self.upgrader = upgrader
        self.firstRequest = firstRequest
        self.headTimeout = headTimeout
        self.decide = decide
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        headDeadline = context.eventLoop.scheduleTask(in: headTimeout) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { headDeadline?.cancel() }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        case .done:
            context.fireChannelRead(data)  // Not unwrapped: after the upgrade these are raw bytes.
        case .deciding(var buffered):
            buffered.append(data)
            state = .deciding(buffered)
        case .waiting:
            guard case .head(let head) = Self.unwrapInboundIn(data) else { return }
            headDeadline?.cancel()
            guard head.headers.contains(name: "upgrade") else {
                state = .done
                context.fireChannelRead(data)
                return
            }
            firstRequest.markUpgrade()
            guard head.asksForWebSocket else {
                pass(head, context: context)
                return
            }
            if let problem = head.handshakeProblem {
                firstRequest.refuse(SpriteError(.invalidRequest, "cannot open a WebSocket: \(problem)"))
                pass(head, context: context)
                return
            }
            startDeciding(head, context: context)
        }
    }

    private func startDeciding(_ head: HTTPRequestHead, context: ChannelHandlerContext) {
        state = .deciding([])
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let channel = context.channel
        context.eventLoop.makeFutureWithTask { [upgrader, firstRequest, decide] in
            switch await decide(head, channel) {
            case .accept(let headers, let handler):
                upgrader.choose(.webSocket(headers: headers, handler: handler))
                return true
            case .tunnel(let headers, let handler):
                upgrader.choose(.tunnel(headers: headers, handler: handler))
                return true
            case .answered(let answer):
                firstRequest.setAnswered(answer)
                return false
            case .refuse(let error):
                firstRequest.refuse(error)
                return false
            }
        }.whenComplete { result in
            let (gate, context) = bound.value
            guard case .deciding(let buffered) = gate.state else { return }  // The client left meanwhile.
            if (try? result.get()) == true {
                gate.state = .done
                context.fireChannelRead(Self.wrapInboundOut(.head(head)))
            } else {
                gate.pass(head, context: context)
            }
            for data in buffered { context.fireChannelRead(data) }
            context.fireChannelReadComplete()
        }
    }

    /// Lets a request through that will not be upgraded.
    private func pass(_ head: HTTPRequestHead, context: ChannelHandlerContext) {
        state = .done
        var head = head
        head.headers.remove(name: "upgrade")
        context.fireChannelRead(Self.wrapInboundOut(.head(head)))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Before the first request nothing else in the pipeline would answer.
        guard case .waiting = state else {
            context.fireErrorCaught(error)
            return
        }
        state = .done
        guard let body = MalformedRequest.body(error) else {
            context.close(promise: nil)
            return
        }
        let head = MalformedRequest.head(error, length: body.readableBytes)
        context.write(NIOAny(HTTPServerResponsePart.head(head)), promise: nil)
        context.write(NIOAny(HTTPServerResponsePart.body(.byteBuffer(body))), promise: nil)
        context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
        let channel = context.channel
        channel.close(mode: .output, promise: nil)
        context.eventLoop.scheduleTask(in: .seconds(1)) { channel.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .waiting = state {
            switch event {
            // Before the first request nothing else in the pipeline answers these.
            case is ChannelShouldQuiesceEvent: context.close(promise: nil)
            case ChannelEvent.inputClosed: context.close(promise: nil)
            default: break
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if case .deciding = state { state = .done }
        context.fireChannelInactive()
    }
}

extension HTTPRequestHead {
    var asksForWebSocket: Bool {
        headers[canonicalForm: "upgrade"].contains { $0.lowercased() == "websocket" }
            && headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
    }

    /// What keeps a request for a WebSocket from being one that NIO accepts.
    var handshakeProblem: String? {
        if headers.contains(name: "transfer-encoding") || (headers.first(name: "content-length") ?? "0") != "0" {
            return "the request has a body"
        }
        if method != .GET { return "the method is \(method.rawValue), use GET" }
        if headers[canonicalForm: "sec-websocket-key"].count != 1 { return "use exactly one Sec-WebSocket-Key" }
        if headers[canonicalForm: "sec-websocket-version"] != ["13"] { return "use Sec-WebSocket-Version 13" }
        return nil
    }
}

/// NIO's upgrader interface, for the one handler that the gate chose.
final class ExecUpgrader: NIOTypedHTTPServerProtocolUpgrader {
    struct NothingChosen: Error {}

    enum Choice: Sendable {
        case webSocket(headers: HTTPHeaders, handler: @Sendable (WebSocketConnection) async -> Void)
        case tunnel(headers: HTTPHeaders, handler: @Sendable (TunnelConnection) async -> Void)
    }

    let supportedProtocol = "websocket"
    let requiredUpgradeHeaders: [String] = []
    private let timing: APIServerConfiguration.Timing
    private let chosen = NIOLockedValueBox<Choice?>(nil)

    init(timing: APIServerConfiguration.Timing) { self.timing = timing }

    func choose(_ choice: Choice) { chosen.withLockedValue { $0 = choice } }

    func buildUpgradeResponse(
        channel: any Channel, upgradeRequest: HTTPRequestHead, initialResponseHeaders: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
        guard let choice = chosen.withLockedValue({ $0 }) else {
            return channel.eventLoop.makeFailedFuture(NothingChosen())
        }
        let headers: HTTPHeaders
        switch choice {
        case .webSocket(let own, _):
            headers = own
        case .tunnel(let answered, _):
            // The service has answered the handshake itself.
            var headers = initialResponseHeaders
            headers.add(contentsOf: answered)
            return channel.eventLoop.makeSucceededFuture(headers)
        }
        // Only for the handshake's headers; the frames are ours.
        let handshake = NIOTypedWebSocketServerUpgrader<Void>(
            shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture(headers) },
            upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
        return handshake.buildUpgradeResponse(
            channel: channel, upgradeRequest: upgradeRequest, initialResponseHeaders: initialResponseHeaders)
    }

    func upgrade(channel: any Channel, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<ConnectionOutcome> {
        channel.eventLoop.makeCompletedFuture { [timing] in
            guard let choice = chosen.withLockedValue({ $0 }) else { throw NothingChosen() }
            let handler: @Sendable (WebSocketConnection) async -> Void
            switch choice {
            case .tunnel(_, let handler):
                return .tunnel(
                    try NIOAsyncChannel(
                        wrappingChannelSynchronously: channel,
                        configuration: .init(isOutboundHalfClosureEnabled: true)),
                    handler)
            case .webSocket(_, let own):
                handler = own
            }
            let pipeline = channel.pipeline.syncOperations
            try channel.syncOptions?.setOption(
                .writeBufferWaterMark, value: .init(low: 128 << 10, high: 512 << 10))
            try pipeline.addHandler(
                ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: Limits.webSocketMessageBytesMax)))
            let traffic = WebSocketTraffic()
            try pipeline.addHandler(WebSocketEndpoint(timing: timing, traffic: traffic))
            let wrapped = try WebSocketChannel(
                wrappingChannelSynchronously: channel,
                // Few: each may be as large as the largest message.
                configuration: .init(backPressureStrategy: .init(lowWatermark: 1, highWatermark: 4)))
            return .webSocket(wrapped, traffic, handler)
        }
    }
}
