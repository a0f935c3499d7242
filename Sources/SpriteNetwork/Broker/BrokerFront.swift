// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import NIOTLS
import SpriteDomain

/// The sprite's side of one connection through the broker, on one event loop with the host's side.
///
/// The two belong together: what one cannot take, the other does not read, and they end together.
final class BrokerFront: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    typealias Reference = NIOLoopBound<BrokerFront>

    private enum State {
        case idle
        /// The way to the host is being made; what comes meanwhile waits.
        case preparing([HTTPServerRequestPart])
        case relaying
        /// Answered by the broker itself; what still comes is dropped.
        case ending
    }

    let channel: any Channel
    private let broker: Broker
    private let address: IPv4Address
    private let host: String
    private let isOver: Bool
    private let greeting: Scheduled<Void>
    private var state = State.idle
    private var back: BrokerBack?
    private var request = BrokeredRequest()
    private var requestEnded = true
    private var responseBegun = false
    private var closesAfterwards = false
    /// The request asked for another protocol, so its decoder has stopped behind it.
    private var asksForUpgrade = false
    private var isSwitching = false

    init(
        _ broker: Broker, _ channel: any Channel, _ address: IPv4Address, _ host: String, isOver: Bool,
        greeting: Scheduled<Void>
    ) {
        self.broker = broker
        self.channel = channel
        self.address = address
        self.host = host
        self.isOver = isOver
        self.greeting = greeting
    }

    // MARK: From the sprite

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = Self.unwrapInboundIn(data)
        switch (state, part) {
        case (.idle, .head(let head)): begin(head)
        case (.preparing(var waiting), _):
            waiting.append(part)
            state = .preparing(waiting)
        case (.relaying, .head(let head)): begin(head)
        case (.relaying, _): pass(part)
        case (.idle, _), (.ending, _): break
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) { back?.channel.flush() }

    func channelWritabilityChanged(context: ChannelHandlerContext) { back?.read(channel.isWritable) }

    func channelInactive(context: ChannelHandlerContext) {
        back?.channel.close(promise: nil)
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is HTTPParserError, case .idle = state {
            return refuse(BrokerFault(.badRequest, "this is no HTTP/1.1 request"))
        }
        context.close(promise: nil)
    }

    func read(_ wanted: Bool) {
        if case .preparing = state { return }
        try? channel.syncOptions?.setOption(.autoRead, value: wanted)
    }

    private func begin(_ head: HTTPRequestHead) {
        greeting.cancel()
        let path = head.uri.prefix { $0 != "?" }
        request = BrokeredRequest(method: String(head.method.rawValue.prefix(32)), path: String(path.prefix(256)))
        requestEnded = false
        responseBegun = false
        asksForUpgrade =
            head.headers.contains(name: "upgrade")
            && head.headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
        closesAfterwards = !head.isKeepAlive || head.headers.contains(name: "upgrade")
        do { try check(head) } catch { return refuse(error) }
        state = .preparing([])
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        let (broker, address, host, eventLoop) = (broker, address, host, channel.eventLoop)
        let front = Reference(self, eventLoop: eventLoop)
        let back = back.map { BrokerBack.Reference($0, eventLoop: eventLoop) }
        let ready = eventLoop.makePromise(of: (BrokerBack.Reference, [(name: String, value: String)]).self)
        ready.completeWithTask {
            // Asked anew for every request: what was taken away is not used again.
            let headers = try await broker.headers(address, host)
            if let back { return (back, headers) }
            return (try await broker.connect(address, host, on: eventLoop, front: front), headers)
        }
        ready.futureResult.assumeIsolated().whenComplete { result in
            switch result {
            case .success((let back, let headers)): self.relay(head, headers, back.value)
            case .failure(let fault as BrokerFault): self.refuse(fault)
            case .failure: self.refuse(BrokerFault(.badGateway, "cannot connect to \(host)"))
            }
        }
    }

    private func check(_ head: HTTPRequestHead) throws(BrokerFault) {
        if isOver {
            throw BrokerFault(
                .serviceUnavailable,
                "the sprite has \(connectionsMax) connections to hosts of its secrets, which is the limit; close some")
        }
        guard head.version.major == 1, head.version.minor >= 1 else {
            throw BrokerFault(.httpVersionNotSupported, "hosts of secrets are spoken to in HTTP/1.1")
        }
        let hosts = head.headers[canonicalForm: "host"]
        let names: [Substring] = [Substring(host), Substring(host + ":443")]
        guard hosts.count == 1, names.contains(hosts[0].lowercased()[...]) else {
            throw BrokerFault(
                .misdirectedRequest, "the Host header must name the host that the TLS greeting named: \(host)")
        }
        guard head.uri.utf8.first == 0x2F || (head.method == .OPTIONS && head.uri == "*") else {
            throw BrokerFault(.badRequest, "the target of a request must begin with /")
        }
        // Both would make the host say, or do, something with the secret that no request needs.
        guard head.method != .TRACE, head.method != .CONNECT else {
            throw BrokerFault(.methodNotAllowed, "\(head.method.rawValue) is not passed on to hosts of secrets")
        }
        let size = head.headers.reduce(head.uri.utf8.count) { $0 + $1.name.utf8.count + $1.value.utf8.count + 4 }
        guard size <= headerBytesMax else {
            throw BrokerFault(
                .requestHeaderFieldsTooLarge, "the request's headers are \(size) bytes, the limit is \(headerBytesMax)")
        }
    }

    private func relay(_ head: HTTPRequestHead, _ secrets: [(name: String, value: String)], _ back: BrokerBack) {
        guard channel.isActive, case .preparing(let waiting) = state else {
            return back.channel.close(promise: nil)
        }
        guard back.channel.isActive else { return refuse(BrokerFault(.badGateway, "\(host) closed the connection")) }
        self.back = back
        var head = head
        head.version = .http1_1
        head.headers.keepEndToEnd()
        for secret in secrets { head.headers.replaceOrAdd(name: secret.name, value: secret.value) }
        state = .relaying
        back.channel.write(HTTPClientRequestPart.head(head), promise: nil)
        for part in waiting { pass(part) }
        back.channel.flush()
        read(back.channel.isWritable)
    }

    private func pass(_ part: HTTPServerRequestPart) {
        guard let back else { return }
        switch part {
        case .head: break
        case .body(let buffer): back.channel.write(HTTPClientRequestPart.body(.byteBuffer(buffer)), promise: nil)
        case .end(let trailers):
            requestEnded = true
            back.channel.write(HTTPClientRequestPart.end(trailers), promise: nil)
        }
    }

    // MARK: To the sprite

    func answered(_ part: HTTPClientResponsePart) {
        guard case .relaying = state else { return }
        switch part {
        case .head(var head):
            head.headers.keepEndToEnd()
            if head.status == .switchingProtocols {
                // A host that switches by itself would have us take requests that were read ahead for plain bytes.
                guard asksForUpgrade, requestEnded else {
                    return refuse(BrokerFault(.badGateway, "\(host) switched protocols without being asked"))
                }
                isSwitching = true
                request.status = head.status.code
                broker.record(address, host, request)
                responseBegun = true
            }
            if head.status.code >= 200 {
                responseBegun = true
                request.status = head.status.code
                broker.record(address, host, request)
                // The body's own framing cannot be kept where there is no body.
                if request.method == "HEAD" || head.status.code == 204 || head.status.code == 304 {
                    head.headers.remove(name: "transfer-encoding")
                } else if !head.headers.contains(name: "content-length"),
                    !head.headers.contains(name: "transfer-encoding")
                {
                    // Until the end of the connection, or in pieces.
                    head.headers.add(name: "transfer-encoding", value: "chunked")
                }
                head.version = .http1_1
                if closesAfterwards { head.headers.replaceOrAdd(name: "connection", value: "close") }
            }
            channel.write(HTTPServerResponsePart.head(head), promise: nil)
        case .body(let buffer): channel.write(HTTPServerResponsePart.body(.byteBuffer(buffer)), promise: nil)
        case .end where isSwitching: switchProtocols()
        case .end(let trailers):
            let isLast = closesAfterwards || !requestEnded
            let written = channel.writeAndFlush(HTTPServerResponsePart.end(trailers))
            if isLast { end(after: written) } else { state = .idle }
        }
    }

    /// The host is gone, or its certificate was not good.
    func lost() {
        switch state {
        case .relaying where !responseBegun: refuse(BrokerFault(.badGateway, "\(host) closed the connection"))
        case .preparing, .ending: break
        case .relaying, .idle: channel.close(promise: nil)
        }
        back = nil
    }

    private func refuse(_ fault: BrokerFault) {
        guard channel.isActive else { return }
        request.refusal = fault.text
        request.status = fault.status.code
        broker.record(address, host, request)
        state = .ending
        back?.channel.close(promise: nil)
        let body = ByteBuffer(
            string: "{\"error\":\"broker_refused\",\"message\":\(JSONText.quoted(fault.text))}\n")
        var headers = HTTPHeaders()
        headers.add(name: "content-type", value: "application/json")
        headers.add(name: "content-length", value: "\(body.readableBytes)")
        headers.add(name: "connection", value: "close")
        let head = HTTPResponseHead(version: .http1_1, status: fault.status, headers: headers)
        channel.write(HTTPServerResponsePart.head(head), promise: nil)
        if request.method != "HEAD" { channel.write(HTTPServerResponsePart.body(.byteBuffer(body)), promise: nil) }
        end(after: channel.writeAndFlush(HTTPServerResponsePart.end(nil)))
    }

    private func end(after written: EventLoopFuture<Void>) {
        state = .ending
        let (channel, back) = (channel, back?.channel)
        // What the sprite still sends is taken for a moment: closed at once, it might lose the answer.
        try? channel.syncOptions?.setOption(.autoRead, value: true)
        written.whenComplete { _ in
            back?.close(promise: nil)
            channel.eventLoop.scheduleTask(in: .milliseconds(50)) { channel.close(promise: nil) }
        }
    }

    /// From now on bytes go through as they are: a WebSocket.
    private func switchProtocols() {
        guard let back else { return channel.close(promise: nil) }
        channel.flush()
        do {
            let (front, behind) = (channel.pipeline.syncOperations, back.channel.pipeline.syncOperations)
            try front.addHandler(BrokerTunnel(to: back.channel))
            try behind.addHandler(BrokerTunnel(to: channel))
            for name in ["front", "pipelining", "encoder", "decoder"] { front.removeHandler(name: name, promise: nil) }
            for name in ["back", "encoder", "decoder"] { behind.removeHandler(name: name, promise: nil) }
            try channel.syncOptions?.setOption(.autoRead, value: true)
            try back.channel.syncOptions?.setOption(.autoRead, value: true)
        } catch {
            channel.close(promise: nil)
            back.channel.close(promise: nil)
        }
    }
}

/// The host's side.
final class BrokerBack: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart
    typealias Reference = NIOLoopBound<BrokerBack>

    let channel: any Channel
    /// The certificate was verified.
    var ready: EventLoopFuture<Void> { verified.futureResult }
    private let host: String
    private let verified: EventLoopPromise<Void>
    private var isReady = false
    private weak var front: BrokerFront?

    init(_ host: String, _ front: BrokerFront, _ channel: any Channel) {
        self.host = host
        self.front = front
        self.channel = channel
        verified = channel.eventLoop.makePromise(of: Void.self)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = Reference(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: handshakeTime) {
            bound.value.fail(BrokerFault(.gatewayTimeout, "\(bound.value.host) does not answer the TLS greeting"))
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSUserEvent, case .handshakeCompleted = event {
            isReady = true
            verified.succeed()
        }
        context.fireUserInboundEventTriggered(event)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { front?.answered(Self.unwrapInboundIn(data)) }
    func channelReadComplete(context: ChannelHandlerContext) { front?.channel.flush() }
    func channelWritabilityChanged(context: ChannelHandlerContext) { front?.read(channel.isWritable) }

    func channelInactive(context: ChannelHandlerContext) {
        fail(BrokerFault(.badGateway, "\(host) closed the connection"))
        front?.lost()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(BrokerFault(.badGateway, "the certificate of \(host) is not accepted, or TLS with it failed"))
        context.close(promise: nil)
    }

    func read(_ wanted: Bool) { try? channel.syncOptions?.setOption(.autoRead, value: wanted) }

    private func fail(_ fault: BrokerFault) {
        guard !isReady else { return }
        isReady = true
        verified.fail(fault)
        channel.close(promise: nil)
    }
}

/// Passes bytes on.
private final class BrokerTunnel: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let peer: any Channel
    init(to peer: any Channel) { self.peer = peer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        peer.writeAndFlush(Self.unwrapInboundIn(data), promise: nil)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        try? peer.syncOptions?.setOption(.autoRead, value: context.channel.isWritable)
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        peer.close(promise: nil)
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

extension HTTPHeaders {
    /// Takes away what is between two neighbours only, except that they switch protocols.
    fileprivate mutating func keepEndToEnd() {
        let isUpgrade = self[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
        for name in ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te"] { remove(name: name) }
        if isUpgrade, contains(name: "upgrade") {
            add(name: "connection", value: "upgrade")
        } else {
            remove(name: "upgrade")
        }
    }
}

private let headerBytesMax = 32 << 10
private let handshakeTime: TimeAmount = .seconds(10)
