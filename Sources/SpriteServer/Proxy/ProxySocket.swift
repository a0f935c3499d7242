// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import ServiceLifecycle
import SpriteAPI
import SpriteDomain
import SpriteProxy

/// One TCP connection into a sprite, over one WebSocket.
struct ProxySocket: Sendable {
    private static let frameBytesMax = 128 << 10
    private static let firstMessageTimeout: Duration = .seconds(30)

    let service: APIService
    let sprite: SpriteName
    /// Where to, if the query says so; else the first message does.
    let target: API.ProxyTarget?

    func serve(_ connection: WebSocketConnection) async {
        let outbound = connection.outbound
        // Awaited by nobody: it only refuses a client that says nothing. Not in the group, of which single tasks cannot
        // be cancelled.
        let deadline = Task {
            guard target == nil, (try? await Task.sleep(for: Self.firstMessageTimeout)) != nil else { return }
            await refuse(outbound)
        }
        defer { deadline.cancel() }
        await withTaskGroup(of: Void.self) { group in
            var stream: TargetConnection?
            do {
                try await outbound.write(.keepalive(.ping))
                if let target { stream = await connect(target, connection, &group) }
                for try await message in connection.inbound {
                    switch message {
                    case .closed:
                        break
                    case .binary(let bytes):
                        guard let stream else {
                            await refuse(outbound)
                            continue
                        }
                        // What a service does not take any more is thrown away, until its side's end closes ours.
                        try? await stream.write(.bytes(bytes))
                        continue
                    case .text(let bytes):
                        // After the first, clients send no text that means anything.
                        guard stream == nil else { continue }
                        deadline.cancel()
                        guard let target = try? JSONBody.decode(API.ProxyTarget.self, from: bytes),
                            UInt16(exactly: target.port).map({ $0 > 0 }) == true
                        else {
                            await refuse(outbound)
                            continue
                        }
                        stream = await connect(target, connection, &group)
                        continue
                    }
                    break
                }
            } catch {
                service.logger.debug("proxy input ended", metadata: ["error": "\(error)"])
            }
            // The client has ended; what it sent has to arrive before the connection goes.
            await stream?.finish()
            let cut = connection.channel.eventLoop.scheduleTask(in: TimeAmount(Limits.halfClosedTimeout)) {
                [stream] in stream?.close()
            }
            await group.waitForAll()
            cut.cancel()
        }
    }

    private func refuse(_ outbound: WebSocketOutbound) async {
        try? await outbound.write(
            .close(API.CloseCode.unsupportedData, #"send {"host":"localhost","port":8080} first"#))
    }

    /// Connects and begins to copy what comes from the sprite; nil if it cannot, which the client has been told.
    private func connect(
        _ target: API.ProxyTarget, _ connection: WebSocketConnection, _ group: inout TaskGroup<Void>
    ) async -> TargetConnection? {
        let outbound = connection.outbound
        let host = target.host ?? ""
        let text = "\(host.isEmpty ? "localhost" : host):\(target.port)"
        guard let port = UInt16(exactly: target.port), port > 0, host.utf8.count <= 255 else {
            await refuse(outbound)
            return nil
        }
        do {
            let use = try await service.control.use(sprite)
            let socket = try await SpriteDialer.dial(
                use, addresses: TargetAddress.candidates(host, sprite: sprite), port: port, timeout: Limits.dialTimeout)
            let stream = try await TargetConnection.make(socket, isHTTP: false, on: connection.channel.eventLoop)
            try await outbound.write(
                .text(try JSONBody.encode(API.ProxyStatus(status: "connected", target: text))))
            group.addTask {
                await copy(stream, outbound)
                // The sprite stays awake for as long as the connection is open.
                use.end()
            }
            return stream
        } catch {
            let reason =
                (error as? SpriteError)?.message ?? (error as? SpriteDialer.Failure)?.description ?? "internal error"
            service.logger.debug("proxy not connected", metadata: ["error": "\(error)"])
            try? await outbound.write(.close(API.CloseCode.internalError, "Failed to connect to \(text): \(reason)"))
            return nil
        }
    }

    private func copy(_ stream: TargetConnection, _ outbound: WebSocketOutbound) async {
        do {
            try await cancelWhenGracefulShutdown {
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
                try await outbound.write(.close(API.CloseCode.normal, ""))
            }
        } catch is CancellationError {
            try? await outbound.write(.close(API.CloseCode.goingAway, "the server is stopping"))
        } catch {
            service.logger.debug("proxy output ended", metadata: ["error": "\(error)"])
            try? await outbound.write(.close(API.CloseCode.internalError, "the connection in the sprite was lost"))
        }
        stream.close()
    }
}
