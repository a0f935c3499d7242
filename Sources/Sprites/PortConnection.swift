// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteAPI

/// A TCP connection to a port inside a sprite.
///
/// When the last reference goes, it is closed.
public final class PortConnection: Sendable {
    private static let messageBytesMax = 128 << 10

    /// Kept so that the event loop of the channel lives as long as this does.
    private let client: SpritesClient
    private let channel: any Channel
    private let state: ExecState

    private init(client: SpritesClient, channel: any Channel, state: ExecState) {
        self.client = client
        self.channel = channel
        self.state = state
    }

    deinit { close() }

    static func open(_ target: API.ProxyTarget, path: String, on client: SpritesClient) async throws -> PortConnection {
        let state = ExecState()
        let place = "\(client.baseURL)"
        let timeout = client.options.requestTimeout
        let channel = try await client.pool.outside(path) {
            ExecChannelHandler(.proxy, state: state, place: place, answerTimeout: timeout)
        }
        do {
            let host = target.host ?? ""
            guard host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x5C }) else {
                throw SpritesError(.invalidRequest, "invalid host '\(host)'")
            }
            let first = #"{"host":"\#(host)","port":\#(target.port)}"#
            let message = WebSocketMessage(opcode: .text, data: ByteBuffer(string: first))
            try await channel.writeAndFlush(ExecWrite(owner: state, message: message))
            _ = try await state.greeting()
            return PortConnection(client: client, channel: channel, state: state)
        } catch let error as SpritesError where error.code == .connectionLost {
            channel.close(promise: nil)
            throw SpritesError(.cannotConnect, "cannot connect to port \(target.port): \(error.message)")
        } catch {
            channel.close(promise: nil)
            throw error
        }
    }

    /// What comes, as it comes, to be read by one task; ends when the service ends the connection.
    public var output: RunningCommand.Output { RunningCommand.Output(state: state) }

    /// Sends bytes; suspends while the connection takes no more.
    public func write(_ bytes: [UInt8]) async throws { try await write(ByteBuffer(bytes: bytes)) }

    func write(_ bytes: ByteBuffer) async throws {
        var bytes = bytes
        while let piece = bytes.readSlice(length: min(bytes.readableBytes, Self.messageBytesMax)),
            piece.readableBytes > 0
        {
            guard !state.hasEnded else { throw SpritesError(.connectionLost, "the connection has ended") }
            try await channel.writeAndFlush(
                ExecWrite(owner: state, message: WebSocketMessage(opcode: .binary, data: piece)))
        }
    }

    /// Ends the connection; what was written before still arrives.
    public func close() {
        guard channel.isActive, !state.hasEnded else { return }
        state.finish(.exited(0))
        channel.triggerUserOutboundEvent(ExecRequest.leave(state), promise: nil)
    }
}

extension Sprite {
    /// Connects to a TCP port in the sprite.
    ///
    /// - Parameters:
    ///   - port: 1 to 65535.
    ///   - host: An address the sprite can reach; its own by default.
    /// - Throws: ``SpritesError`` with `.cannotConnect` if nothing listens there.
    public func connect(port: Int, host: String = "localhost") async throws -> PortConnection {
        try await PortConnection.open(API.ProxyTarget(host: host, port: port), path: path + "/proxy", on: client)
    }
}
