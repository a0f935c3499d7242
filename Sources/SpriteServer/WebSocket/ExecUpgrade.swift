// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    /// Serves a WebSocket until it ends; the text is the request's id.
    typealias SocketHandler = @Sendable (WebSocketConnection, String) async -> Void

    /// Decides whether a request for a WebSocket gets one: who asks, whether the sprite is there, whether the query is
    /// understood. What it is for is begun after the upgrade.
    @Sendable func decideUpgrade(_ head: HTTPRequestHead, _ channel: any Channel) async -> UpgradeDecision {
        if let sprite = spriteHosts?.name(head.headers.first(name: "host")) {
            return await decideTunnel(head, sprite, channel)
        }
        do {
            let target = RequestTarget(head.uri)
            // One that has no WebSocket is answered, and checked, like an ordinary request.
            guard let route = target.segments.flatMap(Route.init), route.hasWebSocket else { return .refuse(nil) }
            try head.checkHeaderLimits()
            try requests.take(channel.remoteAddress)
            try rules.checkHost(head.headers)
            try rules.checkOrigin(head)
            let grant = try authenticate(head.headers)
            try route.check(grant, method: "GET", isUpgrade: true)
            guard let serve = try await socketHandler(head, target, route) else { return .refuse(nil) }
            let requestID = String(UInt64.random(in: (1 << 60)...(.max)), radix: 16)
            let start = ContinuousClock.now
            let time = Timestamp.now()
            let (trace, parent) = TraceContext.of(head.headers)
            let headers: HTTPHeaders = [
                "sprite-version": configuration.version, "x-sprite-capabilities": "signal", "x-request-id": requestID,
                "traceparent": trace.traceparent,
            ]
            let call = Call(
                head: head, target: target, id: requestID, trace: trace, parent: parent, time: time,
                remote: channel.remoteAddress, grant: grant)
            return .accept(headers: headers) { connection in
                live.begin(grant, connection.channel)
                await RequestOrigin.$current.withValue(.token(grant.tokenID)) {
                    await TraceContext.$current.withValue(trace) { await serve(connection, requestID) }
                }
                live.end(grant, connection.channel)
                let bytes = connection.traffic.total
                record(
                    call, status: 101, bytesIn: bytes.in, bytesOut: bytes.out, errorCode: nil, since: start)
                log(method: head.method, path: target.path, status: 101, id: requestID, since: start)
            }
        } catch {
            return .refuse(error)
        }
    }

    /// Nil for a path that has no WebSocket, which is answered like an ordinary request.
    private func socketHandler(
        _ head: HTTPRequestHead, _ target: RequestTarget, _ route: Route
    ) async throws -> SocketHandler? {
        switch route {
        case .exec(let text):
            return try await execHandler(try await sprite(text), try target.query(), sessionID: nil)
        case .session(let text, let id):
            return try await execHandler(try await sprite(text), try target.query(), sessionID: id)
        case .control(let text):
            let name = try await sprite(text)
            // This client's own reading of the protocol cannot work; with a 404 it uses the other paths, which do.
            if head.headers.first(name: "user-agent")?.hasPrefix("sprites-go-sdk") == true { throw noControl }
            let socket = ControlSocket(service: self, sprite: name, first: try firstOperation(try target.query()))
            return { await socket.serve($0, requestID: $1) }
        case .proxy(let text):
            let name = try await sprite(text)
            let query = try target.query()
            let port = try query["port"].map { text in
                guard let port = UInt16(text), port > 0 else {
                    throw SpriteError(
                        .invalidRequest, "invalid query: 'port' is '\(text.prefix(40))', use a number from 1 to 65535")
                }
                return Int(port)
            }
            let socket = ProxySocket(
                service: self, sprite: name, target: port.map { API.ProxyTarget(host: query["host"], port: $0) })
            return { connection, _ in await socket.serve(connection) }
        case .portWatch(let text):
            let socket = PortSocket(service: self, sprite: try await sprite(text))
            return { connection, _ in await socket.serve(connection) }
        case .files(let text, .watch):
            let socket = FileWatchSocket(service: self, sprite: try await sprite(text))
            return { connection, _ in await socket.serve(connection) }
        default:
            return nil
        }
    }

    private func sprite(_ text: String) async throws -> SpriteName {
        let name = try spriteName(text)
        _ = try await control.get(name)
        return name
    }

    private var noControl: SpriteError {
        SpriteError(.notFound, "cannot open a control connection: this client works better without")
    }

    /// An operation in the query is started at once.
    private func firstOperation(_ query: API.Query) throws -> API.ControlMessage? {
        guard let operation = query["op"], !operation.isEmpty else { return nil }
        return API.ControlMessage.start(operation, API.Query(query.items.filter { $0.name != "op" }))
    }

    private func execHandler(_ name: SpriteName, _ query: API.Query, sessionID: String?) async throws -> SocketHandler {
        let socket: ExecSocket
        // The older form of attaching; with either, clients repeat other parameters, which mean nothing then.
        if let sessionID = sessionID ?? query["id"].flatMap({ $0.isEmpty ? nil : $0 }) {
            let point = try ResumePoint(query)
            let session = try await session(name, sessionID, point)
            // A refusal is an answer to the request; the bytes are still there a moment later.
            if point != nil { try session.attach(at: point, mayResume: true).lose() }
            socket = ExecSocket(
                service: self, sprite: name, isOwner: false, request: session.info, point: point
            ) { session }
        } else {
            let request = try execRequest(try API.ExecQuery.checked(query))
            // The id of no session: real ones count from 1.
            let info = SessionInfo(
                id: "0", command: request.arguments.joined(separator: " "), directory: request.directory ?? "",
                isTerminal: request.terminal != nil, terminalSize: request.terminal, createdAt: .now())
            socket = ExecSocket(service: self, sprite: name, isOwner: true, request: info) { [control] in
                try await control.exec(name, request)
            }
        }
        return { await socket.serve($0, requestID: $1) }
    }

    /// Paths that have only a WebSocket.
    func requireUpgrade(_ exchange: Exchange, _ name: SpriteName, _ route: Route) async throws {
        _ = try await control.get(name)
        if case .control = route, exchange.head.headers.first(name: "user-agent")?.hasPrefix("sprites-go-sdk") == true {
            throw noControl
        }
        throw SpriteError(.upgradeRequired, "cannot answer: this path is a WebSocket; ask for an upgrade")
    }
}

extension Route {
    /// Whether the path is served as a WebSocket when a request asks for one.
    fileprivate var hasWebSocket: Bool {
        switch self {
        case .exec, .session, .control, .proxy, .portWatch, .files(_, .watch): true
        default: false
        }
    }
}
