// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import ServiceLifecycle
import SpriteAPI
import SpriteDomain
import SpriteProxy

/// A client that watches which ports of a sprite are open.
struct PortSocket: Sendable {
    let service: APIService
    let sprite: SpriteName

    func serve(_ connection: WebSocketConnection) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await tell(connection.outbound)
                // Not endless: the endpoint's deadline closes the channel.
                try? await connection.channel.closeFuture.get()
            }
            group.addTask {
                // Nothing a client says means anything; only its leaving does.
                do {
                    for try await message in connection.inbound {
                        if case .closed = message { break }
                    }
                } catch {
                    connection.channel.close(promise: nil)
                }
            }
            await group.next()
            group.cancelAll()
        }
    }

    private func tell(_ outbound: WebSocketOutbound) async {
        do {
            try await cancelWhenGracefulShutdown {
                let use = try await service.control.use(sprite)
                for await event in await service.ports.watch(use) {
                    try await outbound.write(.text(try message(event)))
                }
                try Task.checkCancellation()
            }
            try await outbound.write(.close(API.CloseCode.normal, "the sprite has stopped"))
        } catch is CancellationError {
            try? await outbound.write(.close(API.CloseCode.goingAway, "the server is stopping"))
        } catch {
            service.logger.debug("ports not watched", metadata: ["error": "\(error)"])
            let reason = (error as? SpriteError)?.message ?? "the ports cannot be watched"
            try? await outbound.write(.close(API.CloseCode.internalError, reason))
        }
    }

    private func message(_ event: PortEvent) throws -> ByteBuffer {
        switch event {
        case .list(let ports):
            try JSONBody.encode(
                API.PortList(
                    ports: ports.map {
                        .init(
                            port: Int($0.socket.port), address: $0.socket.address, pid: $0.owner.map { Int($0.process) }
                        )
                    }))
        case .opened(let port): try JSONBody.encode(APIService.message("port_opened", port))
        case .closed(let port): try JSONBody.encode(APIService.message("port_closed", port))
        }
    }
}
