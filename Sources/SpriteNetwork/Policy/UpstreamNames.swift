// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOPosix

/// Asks the host's name servers. Every question has a socket of its own, so that a forged answer has to guess its port.
struct UpstreamNames: Sendable {
    let servers: [IPv4Address]

    /// The first useful answer; nil if no server gives one.
    func ask(_ question: NameQuestion, overTCP: Bool) async -> NameAnswer? {
        for _ in 0..<2 {
            for server in servers {
                let identifier = UInt16.random(in: .min ... .max)
                let message = question.message(identifier: identifier)
                let bytes =
                    try? await overTCP
                    ? askStream(message, server)
                    : askDatagram(message, server) { bytes in
                        bytes.count >= 2 && UInt16(bytes[0]) << 8 | UInt16(bytes[1]) == identifier
                    }
                guard let bytes else { continue }
                if let answer = NameAnswer(
                    bytes, to: question, identifier: identifier, secondsToLiveMax: secondsToLiveMax)
                {
                    return answer
                }
            }
        }
        return nil
    }

    private func askDatagram(
        _ message: [UInt8], _ server: IPv4Address, isAnswer: ([UInt8]) -> Bool
    ) async throws -> [UInt8]? {
        let address = try SocketAddress(ipAddress: server.description, port: 53)
        let channel = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(to: address) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NameListener.Datagrams(wrappingChannelSynchronously: channel)
                }
            }
        let timer = channel.channel.eventLoop.scheduleTask(in: patience) { channel.channel.close(promise: nil) }
        defer { timer.cancel() }
        return try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(AddressedEnvelope(remoteAddress: address, data: ByteBuffer(bytes: message)))
            for try await envelope in inbound {
                let bytes = Array(envelope.data.readableBytesView)
                if isAnswer(bytes) { return bytes }
            }
            return nil
        }
    }

    private func askStream(_ message: [UInt8], _ server: IPv4Address) async throws -> [UInt8]? {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(patience)
            .connect(host: server.description, port: 53) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NameListener.Stream(wrappingChannelSynchronously: channel)
                }
            }
        let timer = channel.channel.eventLoop.scheduleTask(in: patience) { channel.channel.close(promise: nil) }
        defer { timer.cancel() }
        return try await channel.executeThenClose { inbound, outbound in
            var framed = ByteBuffer()
            framed.writeInteger(UInt16(message.count))
            framed.writeBytes(message)
            try await outbound.write(framed)
            var received = ByteBuffer()
            for try await part in inbound {
                received.writeImmutableBuffer(part)
                guard let length = received.getInteger(at: received.readerIndex, as: UInt16.self) else { continue }
                if let bytes = received.getBytes(at: received.readerIndex + 2, length: Int(length)) { return bytes }
            }
            return nil
        }
    }
}

private let patience: TimeAmount = .seconds(2)
