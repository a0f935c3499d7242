// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

/// One client of one session over a WebSocket.
struct ExecSocket: Sendable {
    let service: APIService
    let sprite: SpriteName
    let isOwner: Bool
    /// The session as asked for, for one that could not be started.
    let request: SessionInfo
    /// Where a client goes on that was attached before.
    var point: ResumePoint?
    let open: @Sendable () async throws -> any ExecSession

    func serve(_ connection: WebSocketConnection, requestID: String) async {
        do {
            let session = try await open()
            let reader = try session.attach(at: point, mayResume: true)
            try await connection.outbound.write(
                .text(try service.sessionInfo(session.info, isOwner: isOwner, offsets: reader.offsets)))
            await serve(session, reader, connection)
        } catch {
            await report(error, connection, requestID: requestID)
        }
    }

    /// Runs input and output side by side.
    ///
    /// The input is read until the connection ends, which the endpoint sees to: by the peer's Close, a lost
    /// connection, or a deadline after ours. It is never broken off earlier, or the peer's Close would not be read.
    private func serve(
        _ session: any ExecSession, _ reader: any SessionReader, _ connection: WebSocketConnection
    ) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                switch await pumpInput(connection, session, reader) {
                // It has read everything that was sent, or wants no more.
                case .peerClosed: reader.detach()
                case .connectionLost:
                    reader.lose()
                    connection.channel.close(promise: nil)
                }
            }
            group.addTask {
                await pumpOutput(session, reader, connection)
                // Before the handshake ends, which may take seconds.
                reader.lose()
                // Never fails, and is not endless: a deadline of the endpoint closes the channel.
                try? await connection.channel.closeFuture.get()
            }
            // Input ended: the client has gone. Output ended: the channel is closed, and only input that the command
            // does not take could still wait.
            await group.next()
            group.cancelAll()
        }
        reader.lose()
    }

    // MARK: Output

    private func pumpOutput(
        _ session: any ExecSession, _ reader: any SessionReader, _ connection: WebSocketConnection
    ) async {
        let outbound = connection.outbound
        do {
            let status = try await cancelWhenGracefulShutdown {
                try await service.copyOutput(session, reader, of: sprite, outbound)
            }
            if session.info.isTerminal {
                try await outbound.write(contentsOf: [
                    .text(try JSONBody.encode(API.TextMessage.exit(status.code))),
                    .close(status.code == 0 ? API.CloseCode.normal : API.CloseCode.commandFailed, ""),
                ])
            } else {
                try await outbound.write(.exit(status.code))
            }
        } catch {
            // Cancelled by the input: the client has gone, and hears nothing more.
            if Task.isCancelled { return }
            if error is CancellationError {
                // No exit is told: the command goes on, and can be attached again.
                try? await outbound.write(.close(API.CloseCode.goingAway, "the server is stopping"))
            } else if error is TooSlow {
                service.logger.notice("client cut off, too far behind the others of its session")
                try? await outbound.write(.close(API.CloseCode.tryAgainLater, "too slow: attach again"))
            } else {
                service.logger.debug("output ended", metadata: ["error": "\(error)"])
                try? await outbound.write(.close(API.CloseCode.internalError, "the output cannot be read"))
            }
        }
    }

    // MARK: Input

    private enum InputEnd {
        case peerClosed
        case connectionLost
    }

    private func pumpInput(
        _ connection: WebSocketConnection, _ session: any ExecSession, _ reader: any SessionReader
    ) async -> InputEnd {
        do {
            for try await message in connection.inbound {
                switch message {
                case .binary(let bytes): try await takeInput(bytes, session)
                case .text(let bytes): service.obey(bytes, session, reader)
                case .closed: return .peerClosed
                }
            }
        } catch {
            service.logger.debug("input ended", metadata: ["error": "\(error)"])
        }
        return .connectionLost
    }

    private func takeInput(_ bytes: ByteBuffer, _ session: any ExecSession) async throws {
        var bytes = bytes
        if !session.info.isTerminal {
            switch bytes.readInteger(as: UInt8.self) {
            case API.Stream.stdin: break
            case API.Stream.endOfInput:
                session.closeInput()
                return
            default: return  // Not ours to understand; clients of the future may send more.
            }
        }
        try await service.writeInput(bytes, session)
    }

    // MARK: A command that could not be started

    /// A refused upgrade would hide the reason from one of the clients.
    private func report(_ error: any Error, _ connection: WebSocketConnection, requestID: String) async {
        let (code, line) = service.startFailure(error, requestID: requestID)
        let outbound = connection.outbound
        do {
            let info = try service.sessionInfo(request, isOwner: isOwner)
            if request.isTerminal {
                try await outbound.write(contentsOf: [
                    .text(info), .binary(ByteBuffer(string: line + "\r\n")),
                    .text(try JSONBody.encode(API.TextMessage.exit(code))),
                    .close(API.CloseCode.commandFailed, ""),
                ])
            } else {
                try await outbound.write(contentsOf: [
                    .text(info), .stream(API.Stream.stderr, ByteBuffer(string: line + "\n")), .exit(code),
                ])
            }
            // Until the client closes, or a deadline of the endpoint does.
            for try await message in connection.inbound {
                if case .closed = message { break }
            }
            try await connection.channel.closeFuture.get()
        } catch {
            service.logger.debug("connection ended", metadata: ["error": "\(error)"])
        }
    }
}
