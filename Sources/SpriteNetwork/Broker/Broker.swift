// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOTLS
package import SpriteDomain
import SpriteSystem
import Synchronization

/// How secrets are brokered.
package struct BrokerSettings: Sendable {
    /// A file with certificates that hosts of secrets may have besides the public ones; nil for none.
    package var upstreamCertificates: String?
    /// A secret was used; at most once a minute for each.
    package var onUse: @Sendable (SpriteID, _ secret: String, Timestamp) -> Void
    package var record: @Sendable (JournalRecord) -> Void

    package init(
        upstreamCertificates: String? = nil, onUse: @escaping @Sendable (SpriteID, String, Timestamp) -> Void,
        record: @escaping @Sendable (JournalRecord) -> Void
    ) {
        self.upstreamCertificates = upstreamCertificates
        self.onUse = onUse
        self.record = record
    }
}

/// The end of TLS for hosts of secrets: takes a sprite's request, adds its secret and passes it on to the real host.
///
/// Which sprite it is follows from the sender's address, which the firewall vouches for; which host, from the name in
/// the TLS greeting, which the request has to repeat. A secret goes into a request to its own host only, over a
/// connection whose certificate was verified for that host.
final class Broker: Sendable {
    /// A sprite with secrets.
    private struct Client {
        var sprite: SpriteID
        var brokerage: Brokerage
        var leaves: [String: Leaf] = [:]
        var records = Allowance(perSecond: 5, burst: 100)
        var unrecorded: Int64 = 0
        /// When uses of secrets were last told.
        var told: [String: Timestamp] = [:]
    }

    private struct Leaf {
        var context: Task<NIOSSLContext, any Error>
        var until: ContinuousClock.Instant
    }

    private struct Connection {
        var channel: any Channel
        var address: IPv4Address
        var host: String?
    }

    private struct State {
        var clients: [IPv4Address: Client] = [:]
        var connections: [ObjectIdentifier: Connection] = [:]
        var counts: [IPv4Address: Int] = [:]
    }

    let logger: Logger
    private let settings: BrokerSettings
    private let names: NameGuard
    private let upstreamContext: NIOSSLContext
    private let listener: Mutex<(any Channel)?> = Mutex(nil)
    private let state = Mutex(State())

    static func start(
        gateway: IPv4Address, settings: BrokerSettings, names: NameGuard, logger: Logger
    ) async throws -> Broker {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        if let path = settings.upstreamCertificates { configuration.additionalTrustRoots = [.file(path)] }
        let context: NIOSSLContext
        do { context = try NIOSSLContext(configuration: configuration) } catch {
            throw SpriteError(
                .invalidRequest,
                "cannot broker secrets: the certificates to trust cannot be read, the host's or broker_upstream_ca",
                cause: error)
        }
        let broker = Broker(settings: settings, names: names, upstreamContext: context, logger: logger)
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelInitializer { channel in broker.accept(channel) }
            .bind(host: gateway.description, port: 0).get()
        broker.listener.withLock { $0 = channel }
        return broker
    }

    private init(settings: BrokerSettings, names: NameGuard, upstreamContext: NIOSSLContext, logger: Logger) {
        self.settings = settings
        self.names = names
        self.upstreamContext = upstreamContext
        self.logger = logger
    }

    var port: Int? { listener.withLock { $0?.localAddress?.port } }

    func stop() {
        listener.withLock { $0 }?.close(promise: nil)
        for one in state.withLock({ Array($0.connections.values) }) { one.channel.close(promise: nil) }
    }

    // MARK: Who has which secrets

    /// Replaces what a sprite has; connections that carry what it no longer has are closed.
    func serve(_ address: IPv4Address, _ sprite: SpriteID, _ brokerage: Brokerage?) {
        let cut = state.withLock { state in
            let former = state.clients[address]
            if let brokerage {
                var client = former ?? Client(sprite: sprite, brokerage: brokerage)
                if client.sprite != sprite || client.brokerage.authority != brokerage.authority {
                    client = Client(sprite: sprite, brokerage: brokerage)
                }
                client.brokerage = brokerage
                state.clients[address] = client
            } else {
                state.clients[address] = nil
            }
            return state.connections.values.filter { one in
                guard one.address == address else { return false }
                guard let host = one.host, let former, let brokerage, former.sprite == sprite else { return true }
                return former.brokerage.headers(for: host) != brokerage.headers(for: host)
            }
        }
        for one in cut { one.channel.close(promise: nil) }
    }

    /// The sprite's policy has changed: connections to hosts that it does not allow are closed.
    func review(_ address: IPv4Address) {
        let open = state.withLock { $0.connections.values.filter { $0.address == address } }
        guard !open.isEmpty else { return }
        // Ends with the look at each.
        Task {
            for one in open {
                guard let host = one.host, await !names.allows(address, host) else { continue }
                one.channel.close(promise: nil)
            }
        }
    }

    // MARK: Connections

    private func accept(_ channel: any Channel) -> EventLoopFuture<Void> {
        guard let address = channel.remoteAddress?.ipAddress.flatMap({ IPv4Address($0) }), enter(channel, address)
        else {
            return channel.eventLoop.makeFailedFuture(BrokerFault(.serviceUnavailable, "no secrets, or too busy"))
        }
        channel.closeFuture.whenComplete { _ in self.leave(channel) }
        return channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(IdleStateHandler(allTimeout: idleTime))
            // Whoever greets or asks slowly.
            let timer = channel.eventLoop.scheduleTask(in: greetingTime) { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in timer.cancel() }
            let greeting = ByteToMessageHandler(
                SNIHandler { result in
                    guard case .hostname(let text) = result else {
                        return channel.eventLoop.makeFailedFuture(BrokerFault(.badRequest, "no name in the greeting"))
                    }
                    let host = text.lowercased()
                    let ready = channel.eventLoop.makePromise(of: NIOSSLContext.self)
                    ready.completeWithTask { try await self.context(address, host) }
                    return ready.futureResult.flatMapThrowing { context in
                        try self.speak(channel, address, host, context, timer)
                    }.flatMapErrorThrowing { error in
                        channel.close(promise: nil)
                        throw error
                    }
                })
            try pipeline.addHandler(greeting)
        }
    }

    private func speak(
        _ channel: any Channel, _ address: IPv4Address, _ host: String, _ context: NIOSSLContext,
        _ greeting: Scheduled<Void>
    ) throws {
        let pipeline = channel.pipeline.syncOperations
        // The greeting's handler passes on what it read when it goes: right behind it is where TLS begins.
        let isOver = state.withLock { state in
            state.connections[ObjectIdentifier(channel)]?.host = host
            return state.counts[address, default: 0] > connectionsMax
        }
        try pipeline.addHandler(NIOSSLServerHandler(context: context))
        // Answers keep the framing that the host gave them.
        var framing = HTTPResponseEncoder.Configuration()
        framing.automaticallySetFramingHeaders = false
        try pipeline.addHandler(HTTPResponseEncoder(configuration: framing), name: "encoder")
        try pipeline.addHandler(
            ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes)), name: "decoder")
        try pipeline.addHandler(HTTPServerPipelineHandler(), name: "pipelining")
        try pipeline.addHandler(
            BrokerFront(self, channel, address, host, isOver: isOver, greeting: greeting), name: "front")
    }

    private func enter(_ channel: any Channel, _ address: IPv4Address) -> Bool {
        state.withLock { state in
            // Some more than are served, so that they can be told.
            guard state.clients[address] != nil, state.counts[address, default: 0] < connectionsMax + connectionsMax / 4
            else { return false }
            state.counts[address, default: 0] += 1
            state.connections[ObjectIdentifier(channel)] = Connection(channel: channel, address: address)
            return true
        }
    }

    private func leave(_ channel: any Channel) {
        state.withLock { state in
            guard let one = state.connections.removeValue(forKey: ObjectIdentifier(channel)) else { return }
            state.counts[one.address, default: 0] -= 1
            if state.counts[one.address] == 0 { state.counts[one.address] = nil }
        }
    }

    /// TLS in the host's name, with a certificate of the sprite's own authority.
    private func context(_ address: IPv4Address, _ host: String) async throws -> NIOSSLContext {
        let task: Task<NIOSSLContext, any Error>? = state.withLock { state in
            guard let client = state.clients[address], !client.brokerage.secrets(for: host).isEmpty else { return nil }
            if let leaf = client.leaves[host], leaf.until > .now { return leaf.context }
            let authority = client.brokerage.authority
            // Whoever comes meanwhile waits for the same one.
            let made = Task {
                try await blocking {
                    let leaf = try CertificateTool.makeLeaf(for: host, by: authority)
                    var configuration = TLSConfiguration.makeServerConfiguration(
                        certificateChain: try NIOSSLCertificate.fromPEMBytes(Array(leaf.certificate.utf8))
                            .map { .certificate($0) },
                        privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(leaf.key.utf8), format: .pem)))
                    configuration.minimumTLSVersion = .tlsv12
                    configuration.applicationProtocols = ["http/1.1"]
                    return try NIOSSLContext(configuration: configuration)
                }
            }
            let days = CertificateTool.leafDays
            state.clients[address]?.leaves[host] = Leaf(context: made, until: .now + .seconds(86_400 * days / 2))
            return made
        }
        guard let task else { throw BrokerFault(.misdirectedRequest, "no secret is for \(host)") }
        do { return try await task.value } catch {
            logger.error("cannot make a certificate", metadata: ["host": "\(host)", "error": "\(error)"])
            state.withLock { $0.clients[address]?.leaves[host] = nil }
            throw error
        }
    }

    // MARK: Requests

    /// What the sprite's requests to a host carry.
    func headers(_ address: IPv4Address, _ host: String) async throws(BrokerFault) -> [(name: String, value: String)] {
        let (sprite, secrets) = state.withLock { state in
            (state.clients[address]?.sprite, state.clients[address]?.brokerage.secrets(for: host) ?? [])
        }
        guard let sprite, !secrets.isEmpty else {
            throw BrokerFault(.misdirectedRequest, "no secret of this sprite is for \(host)")
        }
        guard await names.allows(address, host) else {
            throw BrokerFault(.forbidden, "the sprite's network policy does not allow \(host)")
        }
        let now = Timestamp.now()
        for secret in secrets {
            let isNews = state.withLock { state in
                let last = state.clients[address]?.told[secret.id]
                guard last.map({ now.nanoseconds - $0.nanoseconds > 60_000_000_000 }) ?? true else { return false }
                state.clients[address]?.told[secret.id] = now
                return true
            }
            if isNews { settings.onUse(sprite, secret.id, now) }
        }
        return secrets.map { ($0.header, $0.headerValue) }
    }

    /// A connection to the host itself, ready once its certificate was verified.
    func connect(
        _ address: IPv4Address, _ host: String, on eventLoop: any EventLoop, front: BrokerFront.Reference
    ) async throws -> BrokerBack.Reference {
        let targets: [IPv4Address]
        switch await names.resolve(host, for: address) {
        case .success(let found): targets = found
        case .failure(.unknown): throw BrokerFault(.badGateway, "no name server knows the address of \(host)")
        case .failure(.refused(let reason)):
            throw BrokerFault(.forbidden, "the network policy refuses the address of \(host): \(reason.rawValue)")
        }
        var failure = BrokerFault(.badGateway, "cannot connect to \(host)")
        for target in targets.prefix(3) {
            do {
                return try await ClientBootstrap(group: eventLoop)
                    .connectTimeout(connectTime)
                    .channelOption(.socketOption(.so_keepalive), value: 1)
                    .channelInitializer { [upstreamContext] channel in
                        channel.eventLoop.makeCompletedFuture {
                            let pipeline = channel.pipeline.syncOperations
                            try pipeline.addHandler(NIOSSLClientHandler(context: upstreamContext, serverHostname: host))
                            try pipeline.addHandler(HTTPRequestEncoder(), name: "encoder")
                            try pipeline.addHandler(
                                ByteToMessageHandler(
                                    HTTPResponseDecoder(
                                        leftOverBytesStrategy: .forwardBytes, informationalResponseStrategy: .forward)),
                                name: "decoder")
                            try pipeline.addHandler(BrokerBack(host, front.value, channel), name: "back")
                        }
                    }
                    .connect(host: target.description, port: 443)
                    .flatMap { channel in
                        do {
                            let back = try channel.pipeline.syncOperations.handler(type: BrokerBack.self)
                            let reference = BrokerBack.Reference(back, eventLoop: channel.eventLoop)
                            return back.ready.map { reference }
                        } catch {
                            return channel.eventLoop.makeFailedFuture(error)
                        }
                    }.get()
            } catch let fault as BrokerFault {
                // The right host was not there: another address is not tried with it.
                throw fault
            } catch {
                failure = BrokerFault(.badGateway, "cannot connect to \(host): \(plain(error))")
            }
        }
        throw failure
    }

    /// Into the journal; of a flood, some and how many there were.
    func record(_ address: IPv4Address, _ host: String, _ request: BrokeredRequest) {
        let told: (SpriteID, Int64, [String])? = state.withLock { state in
            guard let client = state.clients[address] else { return nil }
            guard state.clients[address]?.records.take() == true else {
                state.clients[address]?.unrecorded += 1
                return nil
            }
            state.clients[address]?.unrecorded = 0
            return (client.sprite, client.unrecorded, client.brokerage.secrets(for: host).map(\.id))
        }
        guard let told else { return }
        var fields: [(name: String, value: RecordValue)] = [
            ("host", .text(host)), ("method", .text(request.method)), ("path", .text(request.path)),
            ("secrets", .list(told.2)),
        ]
        if let status = request.status { fields.append(("status", .number(Int64(status)))) }
        if told.1 > 0 { fields.append(("not_recorded", .number(told.1))) }
        let line = "\(request.method) \(host)\(request.path)"
        if let refusal = request.refusal {
            fields.append(("reason", .text(refusal)))
            settings.record(
                JournalRecord(
                    "secret.refused", level: .warning, sprite: told.0, "\(line): \(refusal)", fields: fields, trace: nil
                ))
        } else {
            settings.record(
                JournalRecord(
                    "secret.used", sprite: told.0, "\(line) -> \(request.status ?? 0)", fields: fields, trace: nil))
        }
    }
}

/// One request, as far as the journal may know it.
struct BrokeredRequest: Sendable {
    var method = ""
    /// Without its query.
    var path = ""
    var status: UInt?
    /// Nil if it was passed on.
    var refusal: String?
}

/// Why a request is not passed on. Never holds anything of the request's headers or of a secret.
struct BrokerFault: Error, Sendable {
    var status: HTTPResponseStatus
    var text: String
    init(_ status: HTTPResponseStatus, _ text: String) {
        self.status = status
        self.text = text
    }
}

/// An error without what libraries add to it.
func plain(_ error: any Error) -> String {
    switch error {
    case let error as IOError: errnoText(error.errnoCode)
    case is NIOConnectionError: "no connection"
    case ChannelError.connectTimeout: "no answer in time"
    default: "failed"
    }
}

extension Brokerage {
    func secrets(for host: String) -> [BrokeredSecret] { secrets.filter { $0.host == host } }
    fileprivate func headers(for host: String) -> [String: String] {
        secrets(for: host).reduce(into: [:]) { $0[$1.header] = $1.headerValue }
    }
}

/// Served at once for one sprite.
let connectionsMax = 64
private let greetingTime: TimeAmount = .seconds(30)
private let connectTime: TimeAmount = .seconds(10)
/// Without a byte in either direction.
private let idleTime: TimeAmount = .minutes(10)
