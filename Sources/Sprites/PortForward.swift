// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOPosix

/// A port of this machine whose connections go to a port in a sprite.
///
/// Ends with ``close()``, or when the last reference goes; open connections go on then.
public final class PortForward: Sendable {
    /// The port that listens on this machine.
    public let localPort: Int
    /// The port in the sprite.
    public let remotePort: Int
    private let listener: any Channel

    init(localPort: Int, remotePort: Int, listener: any Channel) {
        self.localPort = localPort
        self.remotePort = remotePort
        self.listener = listener
    }

    deinit { listener.close(promise: nil) }

    /// Takes no more connections.
    public func close() { listener.close(promise: nil) }

    /// Returns when it takes no more connections.
    public func waitUntilClosed() async { try? await listener.closeFuture.get() }
}

extension Sprite {
    /// Listens on this machine and forwards every connection to a port in the sprite.
    ///
    /// - Parameters:
    ///   - localPort: 0 lets the system choose.
    ///   - host: An address the sprite can reach; its own by default.
    ///   - onError: Told about connections that could not be forwarded.
    /// - Throws: ``SpritesError`` with `.invalidRequest` if the local port is taken.
    public func forward(
        localPort: Int, remotePort: Int, host: String = "localhost", localHost: String = "127.0.0.1",
        onError: @escaping @Sendable (any Error) -> Void = { _ in }
    ) async throws -> PortForward {
        let sprite = self
        let bootstrap = ServerBootstrap(group: client.eventLoopGroup)
            .serverChannelOption(.backlog, value: 128)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let connection = try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                        wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
                    // Ends with its connection; nobody waits for it.
                    Task {
                        do {
                            try await copy(connection, try await sprite.connect(port: remotePort, host: host))
                        } catch {
                            channel.close(promise: nil)
                            onError(error)
                        }
                    }
                }
            }
        do {
            let listener = try await bootstrap.bind(host: localHost, port: localPort).get()
            return PortForward(
                localPort: listener.localAddress?.port ?? localPort, remotePort: remotePort, listener: listener)
        } catch {
            throw SpritesError(.invalidRequest, "cannot listen on \(localHost):\(localPort): \(error)")
        }
    }
}

/// Copies both ways until either side ends.
private func copy(_ local: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ remote: PortConnection) async throws {
    try await local.executeThenClose { inbound, outbound in
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    for try await bytes in inbound { try await remote.write(bytes) }
                } catch {
                    return remote.close()
                }
                // A local program that only ends its side may still wait for the answer.
                try? await Task.sleep(for: .seconds(1))
                remote.close()
            }
            group.addTask {
                do {
                    for try await chunk in remote.output { try await outbound.write(chunk.buffer) }
                } catch {
                    // Lost: the local side sees the end all the same.
                }
                outbound.finish()
                // Input that nobody takes any more would otherwise be waited for.
                try? await Task.sleep(for: .milliseconds(500))
            }
            await group.next()
            group.cancelAll()
        }
    }
}
