// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOConcurrencyHelpers
import NIOCore
import SpriteAPI
import SpriteDomain
import SpriteProxy

/// What runs on a control connection, one at a time.
protocol ControlTask: AnyObject, Sendable {
    /// Whether its result was sent, or it was given up.
    var hasEnded: Bool { get }
    /// A text message that is not about operations; false if it means nothing here.
    func obey(_ bytes: ByteBuffer) -> Bool
    func take(_ bytes: ByteBuffer) async throws
    /// Lets go of it; nothing of it is sent any more once this returns.
    ///
    /// - Parameter isLost: Its client may come back for what it did not get. Otherwise it has everything it wants.
    func abandon(isLost: Bool) async
    func waitForEnd() async
}

/// A TCP connection into the sprite on a control connection: a text that it stands, then its bytes.
final class ControlProxy: ControlTask {
    private static let frameBytesMax = 128 << 10

    private let service: APIService
    private let id: String?
    private let stream: TargetConnection
    private let use: any SpriteUse
    private let output = NIOLockedValueBox<Task<Void, Never>?>(nil)
    private let ended = NIOLockedValueBox(false)

    private init(_ stream: TargetConnection, _ use: any SpriteUse, id: String?, service: APIService) {
        self.stream = stream
        self.use = use
        self.id = id
        self.service = service
    }

    /// Connects, and begins to copy what comes from the sprite.
    static func start(
        _ target: API.ProxyTarget, in sprite: SpriteName, id: String?, _ connection: WebSocketConnection,
        service: APIService
    ) async throws -> ControlProxy {
        let host = target.host ?? ""
        let use = try await service.control.use(sprite)
        let socket = try await SpriteDialer.dial(
            use, addresses: TargetAddress.candidates(host, sprite: sprite), port: UInt16(clamping: target.port),
            timeout: Limits.dialTimeout)
        let stream = try await TargetConnection.make(socket, isHTTP: false, on: connection.channel.eventLoop)
        let text = "\(host.isEmpty ? "localhost" : host):\(target.port)"
        let proxy = ControlProxy(stream, use, id: id, service: service)
        try await connection.outbound.write(contentsOf: [
            .keepalive(.ping), .text(try JSONBody.encode(API.ProxyStatus(status: "connected", target: text))),
        ])
        // Awaited by `abandon`, which every operation ends in.
        let task = Task { await proxy.copyOutput(connection.outbound) }
        proxy.output.withLockedValue { $0 = task }
        return proxy
    }

    var hasEnded: Bool { ended.withLockedValue { $0 } }

    private func copyOutput(_ outbound: WebSocketOutbound) async {
        var code: UInt8 = 0
        do {
            while true {
                let parts = try await stream.next()
                guard !parts.isEmpty else { break }
                for case .bytes(var bytes) in parts {
                    while let piece = bytes.readSlice(length: min(bytes.readableBytes, Self.frameBytesMax)),
                        piece.readableBytes > 0
                    {
                        try await outbound.write(.binary(piece))
                    }
                }
            }
        } catch {
            service.logger.debug("proxy output ended", metadata: ["error": "\(error)"])
            code = 1
        }
        if !Task.isCancelled, let complete = try? ControlSocket.text(.complete(code, id: id)) {
            try? await outbound.write(complete)
        }
        ended.withLockedValue { $0 = true }
        stream.close()
        // The sprite stays awake for as long as the connection is open.
        use.end()
    }

    func obey(_ bytes: ByteBuffer) -> Bool { false }

    /// What a service does not take any more is thrown away, until its side's end ends the operation.
    func take(_ bytes: ByteBuffer) async throws { try? await stream.write(.bytes(bytes)) }

    func abandon(isLost: Bool) async {
        let task = output.withLockedValue { $0 }
        task?.cancel()
        stream.close()
        await task?.value
    }

    func waitForEnd() async { await output.withLockedValue({ $0 })?.value }
}
