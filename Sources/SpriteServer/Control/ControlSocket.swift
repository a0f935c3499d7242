// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOConcurrencyHelpers
import NIOCore
import ServiceLifecycle
import SpriteAPI
import SpriteDomain
import SpriteProxy

/// A control connection: one WebSocket, one command after another.
struct ControlSocket: Sendable {
    /// How long a running command may take to end when the server stops.
    private static let drainTimeout: Duration = .seconds(3)

    let service: APIService
    let sprite: SpriteName
    /// Started at once, as if the client had asked for it.
    let first: API.ControlMessage?
    private let state = NIOLockedValueBox<(operation: (any ControlTask)?, isDraining: Bool)>((nil, false))

    init(service: APIService, sprite: SpriteName, first: API.ControlMessage?) {
        self.service = service
        self.sprite = sprite
        self.first = first
    }

    static func text(_ message: API.ControlMessage) throws -> WebSocketOutput {
        var buffer = ByteBuffer(string: API.ControlMessage.prefix)
        buffer.writeImmutableBuffer(try JSONBody.encode(message))
        return .text(buffer)
    }

    func serve(_ connection: WebSocketConnection, requestID: String) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                let isClosed = await read(connection, requestID: requestID)
                if isClosed { await state.withLockedValue { $0.operation }?.abandon(isLost: false) }
                connection.channel.close(promise: nil)
            }
            group.addTask { await drainOnShutdown(connection) }
            await group.next()
            group.cancelAll()
        }
        await state.withLockedValue { $0.operation }?.abandon(isLost: true)
    }

    private var running: (any ControlTask)? {
        state.withLockedValue { $0.operation }.flatMap { $0.hasEnded ? nil : $0 }
    }

    /// Reads until the connection ends. A command's start is awaited here, so that input which came early waits for it.
    ///
    /// - Returns: Whether the client said that it was done.
    private func read(_ connection: WebSocketConnection, requestID: String) async -> Bool {
        do {
            try await connection.outbound.write(.keepalive(.ping))
            if let first { try await start(first, connection, requestID: requestID) }
            for try await message in connection.inbound {
                switch message {
                case .text(let bytes): try await takeText(bytes, connection, requestID: requestID)
                // Between operations it is what a client still had to say to the last.
                case .binary(let bytes): try await running?.take(bytes)
                case .closed: return true
                }
            }
        } catch {
            service.logger.debug("control connection ended", metadata: ["error": "\(error)"])
        }
        return false
    }

    private func takeText(_ bytes: ByteBuffer, _ connection: WebSocketConnection, requestID: String) async throws {
        var bytes = bytes
        guard bytes.readableBytesView.starts(with: API.ControlMessage.prefix.utf8) else {
            _ = running?.obey(bytes)
            return
        }
        bytes.moveReaderIndex(forwardBy: API.ControlMessage.prefix.utf8.count)
        do {
            let message = try JSONBody.decode(API.ControlMessage.self, from: bytes)
            // What newer clients say besides is not for us.
            if message.type == "op.start" { try await start(message, connection, requestID: requestID) }
        } catch let error as SpriteError {
            try await connection.outbound.write(Self.text(.failed(error.code.rawValue, error.message, id: nil)))
        }
    }

    private func start(
        _ message: API.ControlMessage, _ connection: WebSocketConnection, requestID: String
    ) async throws {
        let outbound = connection.outbound
        // A client that gave up on a command starts the next without a word; an answer about the first would be taken
        // for one about the second.
        await state.withLockedValue { $0.operation }?.abandon(isLost: false)
        state.withLockedValue { $0.operation = nil }
        guard message.operation == "exec" || message.operation == "proxy" else {
            let name = message.operation ?? ""
            let text = "there is no operation '\(name.prefix(40))', use exec or proxy"
            return try await outbound.write(Self.text(.failed("op.not_found", text, id: message.id)))
        }
        guard !state.withLockedValue({ $0.isDraining }) else {
            return try await outbound.write(
                Self.text(.failed(SpriteError.Code.unavailable.rawValue, "the server is stopping", id: message.id)))
        }
        if message.operation == "proxy" { return try await proxy(message, connection) }
        do {
            let query = try API.ExecQuery.checked(message.parameters)
            if let id = query.sessionID {
                let point = try ResumePoint(message.parameters)
                let session = try await service.session(sprite, id, point)
                try await begin(session, at: point, isOwner: false, message.id, outbound)
            } else {
                try await exec(try service.execRequest(query), message.id, outbound, requestID: requestID)
            }
        } catch let error as SpriteError {
            let reply = ErrorReply(error, requestID: requestID, logger: service.logger)
            try await outbound.write(Self.text(.failed(reply.body.error, reply.body.message, id: message.id)))
        }
    }

    private func proxy(_ message: API.ControlMessage, _ connection: WebSocketConnection) async throws {
        let host = message.parameters["host"]
        let portText = message.parameters["port"] ?? ""
        guard let port = UInt16(portText), port > 0, (host?.utf8.count ?? 0) <= 255 else {
            let code = SpriteError.Code.invalidRequest.rawValue
            return try await connection.outbound.write(
                Self.text(
                    .failed(code, "'port' is '\(portText.prefix(40))', use a number from 1 to 65535", id: message.id)))
        }
        do {
            let proxy = try await ControlProxy.start(
                API.ProxyTarget(host: host, port: Int(port)), in: sprite, id: message.id, connection, service: service)
            state.withLockedValue { $0.operation = proxy }
        } catch {
            let reason =
                (error as? SpriteError)?.message ?? (error as? SpriteDialer.Failure)?.description ?? "internal error"
            service.logger.debug("proxy not connected", metadata: ["error": "\(error)"])
            let code = SpriteError.Code.badGateway.rawValue
            let text = "Failed to connect to \(host ?? "localhost"):\(port): \(reason)"
            try await connection.outbound.write(Self.text(.failed(code, text, id: message.id)))
        }
    }

    private func exec(
        _ request: ExecRequest, _ id: String?, _ outbound: WebSocketOutbound, requestID: String
    ) async throws {
        let session: any ExecSession
        do {
            session = try await service.control.exec(sprite, request)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            let (code, line) = service.startFailure(error, requestID: requestID)
            let complete = try Self.text(.complete(code, id: id))
            let text = ByteBuffer(string: line + "\n")
            return try await outbound.write(
                contentsOf: request.terminal == nil
                    ? [.stream(API.Stream.stderr, text), .stream(API.Stream.exit, ByteBuffer(integer: code)), complete]
                    : [.binary(text), .text(try JSONBody.encode(API.TextMessage.exit(code))), complete])
        }
        try await begin(session, isOwner: true, id, outbound)
    }

    private func begin(
        _ session: any ExecSession, at point: ResumePoint? = nil, isOwner: Bool, _ id: String?,
        _ outbound: WebSocketOutbound
    ) async throws {
        let operation = try ControlOperation(session, at: point, id: id, service: service)
        state.withLockedValue { $0.operation = operation }
        try await outbound.write(contentsOf: [
            .keepalive(.message),
            .text(try service.sessionInfo(session.info, isOwner: isOwner, offsets: operation.offsets)),
        ])
        operation.start(sprite, outbound)
    }

    /// A command that is about to end may; then the connection is closed, and one that still runs goes on.
    private func drainOnShutdown(_ connection: WebSocketConnection) async {
        guard (try? await gracefulShutdown()) != nil else { return }
        state.withLockedValue { $0.isDraining = true }
        if let running {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await running.waitForEnd() }
                group.addTask { try? await Task.sleep(for: Self.drainTimeout) }
                await group.next()
                group.cancelAll()
                // The first of the two cannot be cancelled, but giving up the operation ends it.
                await running.abandon(isLost: true)
            }
        }
        try? await connection.outbound.write(.close(API.CloseCode.goingAway, "the server is stopping"))
        // Not endless: the endpoint's deadline closes the channel.
        try? await connection.channel.closeFuture.get()
    }
}
