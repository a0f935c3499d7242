// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Logging
import NIOCore
import NIOHTTP1
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

/// One client of one session over a WebSocket.
struct ExecSocket: Sendable {
    /// Small enough to begin with soon, large enough to cost little: the largest buffer of one event is two of them.
    private static let frameBytesMax = 128 << 10

    let service: APIService
    let isOwner: Bool
    let wantsTerminal: Bool
    let open: @Sendable () async throws -> any ExecSession

    func serve(_ connection: WebSocketConnection, requestID: String) async {
        do {
            let session = try await open()
            try await connection.outbound.write(.text(try sessionInfo(session.info)))
            await serve(session, connection)
        } catch {
            await report(error, connection, requestID: requestID)
        }
    }

    /// Runs input and output side by side.
    ///
    /// The input is read until the connection ends, which the endpoint sees to: by the peer's Close, a lost
    /// connection, or a deadline after ours. It is never broken off earlier, or the peer's Close would not be read.
    private func serve(_ session: any ExecSession, _ connection: WebSocketConnection) async {
        let reader = session.attach()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                if await pumpInput(connection, session) == .connectionLost {
                    connection.channel.close(promise: nil)
                }
            }
            group.addTask {
                await pumpOutput(reader, connection, isTerminal: session.info.isTerminal)
                // Detached before the handshake ends, which may take seconds.
                reader.detach()
                // Never fails, and is not endless: a deadline of the endpoint closes the channel.
                try? await connection.channel.closeFuture.get()
            }
            // Input ended: the client has gone. Output ended: the channel is closed, and only input that the command
            // does not take could still wait.
            await group.next()
            group.cancelAll()
        }
        reader.detach()
    }

    // MARK: Output

    private func pumpOutput(_ reader: any SessionReader, _ connection: WebSocketConnection, isTerminal: Bool) async {
        let outbound = connection.outbound
        do {
            let status = try await cancelWhenGracefulShutdown {
                try await copyOutput(reader, outbound, isTerminal: isTerminal)
            }
            if isTerminal {
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
            } else {
                service.logger.debug("output ended", metadata: ["error": "\(error)"])
                try? await outbound.write(.close(API.CloseCode.internalError, "the output cannot be read"))
            }
        }
    }

    private func copyOutput(
        _ reader: any SessionReader, _ outbound: NIOAsyncChannelOutboundWriter<WebSocketOutput>, isTerminal: Bool
    ) async throws -> ExitStatus {
        while let event = try await reader.next() {
            switch event {
            case .output(let stream, var bytes):
                while let piece = bytes.readSlice(length: min(bytes.readableBytes, Self.frameBytesMax)),
                    piece.readableBytes > 0
                {
                    try await outbound.write(isTerminal ? .binary(piece) : .stream(stream.rawValue, piece))
                }
            case .exited(let status):
                return status
            }
        }
        throw SpriteError(.internalError, "the session ended without an exit status")
    }

    private func sessionInfo(_ info: SessionInfo) throws -> ByteBuffer {
        var message = API.TextMessage(type: "session_info")
        message.sessionID = info.id
        message.command = info.command
        message.created = info.createdAt.nanoseconds / 1_000_000_000
        message.columns = Int(info.terminalSize?.columns ?? 80)
        message.rows = Int(info.terminalSize?.rows ?? 24)
        message.isOwner = isOwner
        message.tty = info.isTerminal
        return try JSONBody.encode(message)
    }

    // MARK: Input

    private enum InputEnd {
        case peerClosed
        case connectionLost
    }

    private func pumpInput(_ connection: WebSocketConnection, _ session: any ExecSession) async -> InputEnd {
        do {
            for try await message in connection.inbound {
                switch message {
                case .binary(let bytes): try await takeInput(bytes, session)
                case .text(let bytes): obey(bytes, session)
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
        guard bytes.readableBytes > 0 else { return }
        do {
            try await session.writeInput(bytes)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            // The command has ended or closed its input: the rest goes where the rest of a pipe goes.
        }
    }

    /// Control messages; what is not understood is ignored, as clients do with ours.
    private func obey(_ bytes: ByteBuffer, _ session: any ExecSession) {
        guard bytes.readableBytes <= 64 << 10,
            let message = try? JSONBody.decode(API.TextMessage.self, from: bytes)
        else { return }
        switch message.type {
        case "resize":
            guard let columns = message.columns.flatMap(UInt16.init(exactly:)), columns > 0,
                let rows = message.rows.flatMap(UInt16.init(exactly:)), rows > 0
            else { return }
            session.resize(TerminalSize(rows: rows, columns: columns))
        case "signal":
            guard let number = message.signal.flatMap(API.SignalName.number) else { return }
            session.signal(number)
        default:
            break
        }
    }

    // MARK: A command that could not be started

    /// Tells it as a shell would: one line on standard error, and 127 or 126. A refused upgrade would hide the reason
    /// from one of the clients.
    private func report(_ error: any Error, _ connection: WebSocketConnection, requestID: String) async {
        let reply = ErrorReply(error, requestID: requestID, logger: service.logger)
        let code: UInt8 = reply.status == .notFound || reply.status == .badRequest ? 127 : 126
        let line = "sprite: \(reply.body.message)"
        let outbound = connection.outbound
        do {
            if wantsTerminal {
                try await outbound.write(contentsOf: [
                    .binary(ByteBuffer(string: line + "\r\n")),
                    .text(try JSONBody.encode(API.TextMessage.exit(code))),
                    .close(API.CloseCode.commandFailed, ""),
                ])
            } else {
                try await outbound.write(contentsOf: [
                    .stream(API.Stream.stderr, ByteBuffer(string: line + "\n")), .exit(code),
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
