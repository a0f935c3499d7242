// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOPosix
import SpriteDomain

/// Takes questions for names from sprites, as datagrams and over TCP, on one port of the bridge's address.
struct NameListener: Sendable {
    typealias Answer = @Sendable (_ question: [UInt8], _ from: IPv4Address, _ isStream: Bool) async -> [UInt8]?
    typealias Datagrams = NIOAsyncChannel<AddressedEnvelope<ByteBuffer>, AddressedEnvelope<ByteBuffer>>
    typealias Stream = NIOAsyncChannel<ByteBuffer, ByteBuffer>

    let port: Int
    private let datagrams: Datagrams
    private let streams: NIOAsyncChannel<Stream, Never>

    static func bind(_ gateway: IPv4Address) async throws -> NameListener {
        let group = MultiThreadedEventLoopGroup.singleton
        var failure: any Error = ChannelError.connectTimeout(.seconds(0))
        for _ in 0..<16 {
            let datagrams = try await DatagramBootstrap(group: group)
                .bind(host: gateway.description, port: 0) { channel in
                    channel.eventLoop.makeCompletedFuture { try Datagrams(wrappingChannelSynchronously: channel) }
                }
            guard let port = datagrams.channel.localAddress?.port else { continue }
            do {
                let streams = try await ServerBootstrap(group: group)
                    .serverChannelOption(.backlog, value: 256)
                    .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                    .bind(host: gateway.description, port: port) { channel in
                        channel.eventLoop.makeCompletedFuture { try Stream(wrappingChannelSynchronously: channel) }
                    }
                return NameListener(port: port, datagrams: datagrams, streams: streams)
            } catch {
                // The port is free for datagrams only.
                failure = error
                try? await datagrams.channel.close()
            }
        }
        throw failure
    }

    /// Until the task is cancelled.
    func serve(_ answer: @escaping Answer) async {
        await withDiscardingTaskGroup { group in
            group.addTask { try? await serveDatagrams(answer) }
            group.addTask { try? await serveStreams(answer) }
        }
    }

    private func serveDatagrams(_ answer: @escaping Answer) async throws {
        try await datagrams.executeThenClose { inbound, outbound in
            try await withThrowingDiscardingTaskGroup { group in
                for try await envelope in inbound {
                    guard let from = spriteAddress(envelope.remoteAddress) else { continue }
                    group.addTask {
                        guard let reply = await answer(Array(envelope.data.readableBytesView), from, false) else {
                            return
                        }
                        // A sprite that is gone, or whose queue is full, asks again.
                        try? await outbound.write(
                            AddressedEnvelope(remoteAddress: envelope.remoteAddress, data: ByteBuffer(bytes: reply)))
                    }
                }
            }
        }
    }

    private func serveStreams(_ answer: @escaping Answer) async throws {
        let open = StreamCount()
        try await streams.executeThenClose { inbound in
            try await withThrowingDiscardingTaskGroup { group in
                for try await stream in inbound {
                    guard let from = stream.channel.remoteAddress.flatMap(spriteAddress), await open.enter(from) else {
                        group.addTask { try? await stream.executeThenClose { _, _ in } }
                        continue
                    }
                    group.addTask {
                        try? await serveStream(stream, from, answer)
                        await open.leave(from)
                    }
                }
            }
        }
    }

    /// One question after the other, each with its length in front (RFC 1035, 4.2.2).
    private func serveStream(_ stream: Stream, _ from: IPv4Address, _ answer: Answer) async throws {
        let timer = stream.channel.eventLoop.scheduleTask(in: .seconds(30)) { stream.channel.close(promise: nil) }
        defer { timer.cancel() }
        try await stream.executeThenClose { inbound, outbound in
            var received = ByteBuffer()
            for try await part in inbound {
                received.writeImmutableBuffer(part)
                while let length = received.getInteger(at: received.readerIndex, as: UInt16.self) {
                    guard length <= questionBytesMax else { return }
                    guard received.readableBytes >= 2 + Int(length) else { break }
                    received.moveReaderIndex(forwardBy: 2)
                    guard let question = received.readBytes(length: Int(length)),
                        let reply = await answer(question, from, true)
                    else { return }
                    var framed = ByteBuffer()
                    framed.writeInteger(UInt16(reply.count))
                    framed.writeBytes(reply)
                    try await outbound.write(framed)
                }
                received.discardReadBytes()
            }
        }
    }
}

/// Connections that each sprite has.
private actor StreamCount {
    private var counts: [IPv4Address: Int] = [:]

    func enter(_ address: IPv4Address) -> Bool {
        guard counts[address, default: 0] < streamsPerSpriteMax else { return false }
        counts[address, default: 0] += 1
        return true
    }

    func leave(_ address: IPv4Address) {
        counts[address, default: 0] -= 1
        if counts[address] == 0 { counts[address] = nil }
    }
}

private let streamsPerSpriteMax = 16
/// A name, a type and an option record take less than 300.
private let questionBytesMax: UInt16 = 512

private func spriteAddress(_ address: SocketAddress) -> IPv4Address? { address.ipAddress.flatMap { IPv4Address($0) } }
