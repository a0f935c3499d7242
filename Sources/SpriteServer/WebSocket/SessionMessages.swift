// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain
import SpriteProxy

typealias WebSocketOutbound = NIOAsyncChannelOutboundWriter<WebSocketOutput>

/// What exec and control connections have in common: the messages of one session.
extension APIService {
    /// Small enough to begin with soon, large enough to cost little: the largest buffer of one event is two of them.
    private static let frameBytesMax = 128 << 10

    func sessionInfo(_ info: SessionInfo, isOwner: Bool, offsets: [Int64]? = nil) throws -> ByteBuffer {
        var message = API.TextMessage(type: "session_info")
        message.sessionID = info.id
        message.command = info.command
        message.created = info.createdAt.nanoseconds / 1_000_000_000
        message.columns = Int(info.terminalSize?.columns ?? 80)
        message.rows = Int(info.terminalSize?.rows ?? 24)
        message.isOwner = isOwner
        message.tty = info.isTerminal
        if let offsets {
            message.instance = info.instance
            message.stdoutOffset = offsets.first
            message.stderrOffset = offsets.dropFirst().first
        }
        return try JSONBody.encode(message)
    }

    /// Sends everything a session prints, and meanwhile the ports it opens; returns when it has ended.
    func copyOutput(
        _ session: any ExecSession, _ reader: any SessionReader, of sprite: SpriteName, _ outbound: WebSocketOutbound
    ) async throws -> ExitStatus {
        let isTerminal = session.info.isTerminal
        // Awaited below: no message may come after the exit.
        let ports = Task { await tellPorts(of: session, sprite, outbound) }
        do {
            while let event = try await reader.next() {
                switch event {
                case .output(let stream, var bytes):
                    // One write for one event: each costs a hop to the event loop and a system call.
                    var pieces: [WebSocketOutput] = []
                    while let piece = bytes.readSlice(length: min(bytes.readableBytes, Self.frameBytesMax)),
                        piece.readableBytes > 0
                    {
                        pieces.append(isTerminal ? .binary(piece) : .stream(stream.rawValue, piece))
                    }
                    try await outbound.write(contentsOf: pieces)
                case .exited(let status):
                    ports.cancel()
                    await ports.value
                    return status
                }
            }
            throw SpriteError(.internalError, "the session ended without an exit status")
        } catch {
            ports.cancel()
            await ports.value
            throw error
        }
    }

    /// Tells of ports that processes of the session listen on, until it is cancelled.
    private func tellPorts(of session: any ExecSession, _ sprite: SpriteName, _ outbound: WebSocketOutbound) async {
        // Most commands are over by then, and cost nothing; a service takes longer to start.
        guard (try? await Task.sleep(for: .milliseconds(300))) != nil, session.info.processID > 0,
            let use = try? await control.use(sprite)
        else { return }
        for await event in await ports.watch(use) {
            let messages: [API.TextMessage] =
                switch event {
                case .list(let ports): ports.filter { isPort($0, of: session) }.map { Self.message("port_opened", $0) }
                case .opened(let port): isPort(port, of: session) ? [Self.message("port_opened", port)] : []
                case .closed(let port): isPort(port, of: session) ? [Self.message("port_closed", port)] : []
                }
            for message in messages {
                guard let text = try? JSONBody.encode(message), (try? await outbound.write(.text(text))) != nil else {
                    return
                }
            }
        }
    }

    private func isPort(_ port: OpenPort, of session: any ExecSession) -> Bool {
        port.owner?.session == session.info.processID
    }

    static func message(_ type: String, _ port: OpenPort) -> API.TextMessage {
        var message = API.TextMessage(type: type)
        message.port = Int(port.socket.port)
        message.address = port.socket.address
        message.pid = port.owner.map { Int($0.process) }
        return message
    }

    /// Control messages of a client; what is not understood is ignored, as clients do with ours.
    ///
    /// - Returns: Whether it was one.
    @discardableResult
    func obey(
        _ bytes: ByteBuffer, _ session: any ExecSession, _ reader: any SessionReader, onSignal: () -> Void = {}
    ) -> Bool {
        guard bytes.readableBytes <= 64 << 10,
            let message = try? JSONBody.decode(API.TextMessage.self, from: bytes)
        else { return false }
        switch message.type {
        case "resize":
            guard let columns = message.columns.flatMap(UInt16.init(exactly:)), columns > 0,
                let rows = message.rows.flatMap(UInt16.init(exactly:)), rows > 0
            else { return true }
            reader.resize(TerminalSize(rows: rows, columns: columns))
            return true
        case "signal":
            guard let number = message.signal.flatMap(API.SignalName.number) else { return true }
            onSignal()
            session.signal(number)
            return true
        default:
            return false
        }
    }

    /// Writes to a command; the rest of the input of one that has ended goes where the rest of a pipe goes.
    func writeInput(_ bytes: ByteBuffer, _ session: any ExecSession) async throws {
        guard bytes.readableBytes > 0 else { return }
        do {
            try await session.writeInput(bytes)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            logger.trace("input dropped", metadata: ["error": "\(error)"])
        }
    }

    /// How a shell would report a command that could not be started: one line on standard error, and 127 or 126.
    func startFailure(_ error: any Error, requestID: String) -> (code: UInt8, line: String) {
        let reply = ErrorReply(error, requestID: requestID, logger: logger)
        let code: UInt8 = reply.status == .notFound || reply.status == .badRequest ? 127 : 126
        return (code, "sprite: \(reply.body.message)")
    }
}
