// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

extension APIService {
    /// Small, since clients take each of their reads for one frame.
    private static let frameBytesMax = 8 << 10

    /// Runs a command without a WebSocket: the body is its input, the answer its frames without lengths, one a chunk.
    func execOverHTTP(_ exchange: Exchange, _ name: SpriteName) async throws {
        let query = try API.ExecQuery.checked(try exchange.target.query())
        if query.tty || query.sessionID != nil || query.detachable || query.hasMultiplexerFlag {
            throw SpriteError(
                .invalidRequest, "invalid query: 'tty', 'id', 'detachable' and 'cc' need a WebSocket")
        }
        let request = try execRequest(query)
        let session = try await control.exec(name, request)
        let reader = session.attach()
        defer { reader.detach() }
        // The body, and whether the client is still there, are read until the command ends; that reading is broken
        // off then, and the connection cannot be used again.
        try await exchange.begin(
            ["content-type": "application/octet-stream", "x-content-type-options": "nosniff"], closing: true)
        let pause = configuration.timing.exitPause
        try await cancelWhenGracefulShutdown {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask {
                    await Self.pumpBody(of: exchange, into: request.takesInput ? session : nil)
                    return false
                }
                group.addTask {
                    try await Self.pumpFrames(of: reader, to: exchange, exitPause: pause)
                    return true
                }
                defer { group.cancelAll() }
                guard try await group.next() == true else { throw ChannelError.inputClosed }
            }
        }
    }

    /// Returns when the client has gone.
    private static func pumpBody(of exchange: Exchange, into session: (any ExecSession)?) async {
        do {
            if session != nil { try await exchange.sendContinue() }
            while let bytes = try await exchange.parts.nextBody() {
                // What a command no longer reads is thrown away, like the rest of a pipe.
                if !Task.isCancelled { try? await session?.writeInput(bytes) }
            }
            session?.closeInput()
            await exchange.parts.discardAll()
        } catch {
            session?.closeInput()
        }
    }

    private static func pumpFrames(
        of reader: any SessionReader, to exchange: Exchange, exitPause: Duration
    ) async throws {
        while let event = try await reader.next() {
            switch event {
            case .output(let stream, var bytes):
                var frames: [ByteBuffer] = []
                while let piece = bytes.readSlice(length: min(bytes.readableBytes, frameBytesMax)),
                    piece.readableBytes > 0
                {
                    var frame = ByteBuffer(integer: stream.rawValue)
                    frame.writeImmutableBuffer(piece)
                    frames.append(frame)
                }
                try await exchange.write(frames)
            case .exited(let status):
                try await Task.sleep(for: exitPause)
                try await exchange.write([ByteBuffer(bytes: [API.Stream.exit, status.code])])
                try await exchange.end()
                return
            }
        }
        throw SpriteError(.internalError, "the session ended without an exit status")
    }
}

extension API.ExecQuery {
    /// Reads a query; what cannot be understood is an invalid request.
    static func checked(_ query: API.Query) throws -> API.ExecQuery {
        do {
            return try API.ExecQuery(query)
        } catch {
            throw SpriteError(.invalidRequest, error.description)
        }
    }
}
