// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import SpriteDomain
import Testing

@testable import SpriteServer

/// A server on a free port with a fake behind it.
func withServer(
    _ change: (inout APIServerConfiguration) -> Void = { _ in },
    _ body: (Int, FakeControl) async throws -> Void
) async throws {
    let control = FakeControl()
    var configuration = APIServerConfiguration(host: "127.0.0.1", port: 0, version: "1.2.3") {
        $0 == "org/1/secret" ? AccessGrant(tokenID: "1", scope: .all) : nil
    }
    configuration.timing.closeByClient = .milliseconds(500)
    configuration.timing.closeHandshake = .seconds(1)
    change(&configuration)
    let (ports, continuation) = AsyncStream<Int>.makeStream()
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let server = APIServer(control: control, configuration: configuration, logger: logger) { port in
        continuation.yield(port)
        continuation.finish()
    }
    let group = ServiceGroup(services: [server], logger: logger)
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await group.run() }
        for await port in ports { try await body(port, control) }
        await group.triggerGracefulShutdown()
        try await tasks.waitForAll()
    }
}

/// A connection whose bytes the test writes and reads itself.
final class RawClient {
    struct Answer {
        var status = 0
        var headers: [String: String] = [:]
        var body = ""
        /// With chunked bodies.
        var chunks: [[UInt8]] = []
    }

    struct Frame: Equatable {
        var opcode: UInt8
        var bytes: [UInt8]
        var text: String { String(decoding: bytes, as: UTF8.self) }
    }

    struct ConnectionEnded: Error {}

    private var iterator: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    private var buffer = ByteBuffer()
    let channel: any Channel

    private init(
        _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>, _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>,
        _ channel: any Channel
    ) {
        iterator = inbound.makeAsyncIterator()
        self.outbound = outbound
        self.channel = channel
    }

    static func connect(_ port: Int, _ body: (RawClient) async throws -> Void) async throws {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        try await channel.executeThenClose { inbound, outbound in
            try await body(RawClient(inbound, outbound, channel.channel))
        }
    }

    func send(_ text: String) async throws { try await outbound.write(ByteBuffer(string: text)) }
    func send(_ bytes: [UInt8]) async throws { try await outbound.write(ByteBuffer(bytes: bytes)) }

    /// Sends a request with the right token.
    func request(
        _ method: String, _ path: String, _ headers: [String: String] = ["Authorization": "Bearer org/1/secret"],
        body: String? = nil
    ) async throws {
        var text = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n"
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        if let body { text += "Content-Length: \(body.utf8.count)\r\n" }
        try await send(text + "\r\n" + (body ?? ""))
    }

    func answer(isHead: Bool = false) async throws -> Answer {
        var answer = Answer()
        answer.status = Int(try await line().split(separator: " ")[1]) ?? 0
        while case let text = try await line(), !text.isEmpty {
            let parts = text.split(separator: ":", maxSplits: 1)
            answer.headers[parts[0].lowercased()] = parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
        }
        if isHead || answer.status < 200 || answer.status == 204 { return answer }
        if let length = answer.headers["content-length"].flatMap(Int.init) {
            answer.body = String(decoding: try await bytes(length), as: UTF8.self)
        } else if answer.headers["transfer-encoding"] == "chunked" {
            while case let length = Int(try await line(), radix: 16) ?? 0, length > 0 {
                answer.chunks.append(try await bytes(length))
                _ = try await line()
            }
            _ = try await line()
            answer.body = String(decoding: answer.chunks.joined(), as: UTF8.self)
        }
        return answer
    }

    /// Opens a WebSocket; the answer of a refusal is thrown away after its status.
    func upgrade(_ path: String, _ headers: [String: String] = [:]) async throws -> Answer {
        var headers = headers
        headers["Authorization"] = headers["Authorization"] ?? "Bearer org/1/secret"
        headers["Upgrade"] = "websocket"
        headers["Connection"] = "Upgrade"
        headers["Sec-WebSocket-Key"] = headers["Sec-WebSocket-Key"] ?? "dGhlIHNhbXBsZSBub25jZQ=="
        headers["Sec-WebSocket-Version"] = headers["Sec-WebSocket-Version"] ?? "13"
        try await request("GET", path, headers)
        return try await answer()
    }

    func send(opcode: UInt8, _ payload: [UInt8], fin: Bool = true, masked: Bool = true) async throws {
        var frame: [UInt8] = [(fin ? 0x80 : 0) | opcode]
        let mask: [UInt8] = [1, 2, 3, 4]
        let flag: UInt8 = masked ? 0x80 : 0
        switch payload.count {
        case ...125: frame.append(flag | UInt8(payload.count))
        case ...0xFFFF: frame += [flag | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
        default:
            frame.append(flag | 127)
            for shift in stride(from: 56, through: 0, by: -8) { frame.append(UInt8(payload.count >> shift & 255)) }
        }
        if masked {
            frame += mask
            frame += payload.enumerated().map { $1 ^ mask[$0 & 3] }
        } else {
            frame += payload
        }
        try await send(frame)
    }

    func frame() async throws -> Frame {
        let head = try await bytes(2)
        var length = Int(head[1] & 127)
        if length == 126 {
            length = try await bytes(2).reduce(0) { $0 << 8 | Int($1) }
        } else if length == 127 {
            length = try await bytes(8).reduce(0) { $0 << 8 | Int($1) }
        }
        return Frame(opcode: head[0] & 15, bytes: try await bytes(length))
    }

    /// All frames up to and with the peer's Close; empty if there was none.
    func framesToClose() async throws -> [Frame] {
        var frames: [Frame] = []
        while true {
            let frame = try await frame()
            frames.append(frame)
            if frame.opcode == 8 { return frames }
        }
    }

    /// True once the server has closed.
    func isClosedByServer() async throws -> Bool {
        while let more = try await iterator.next() { if more.readableBytes == 0 { break } }
        return true
    }

    private func line() async throws -> String {
        while true {
            if let end = buffer.readableBytesView.firstIndex(of: 10) {
                let text = buffer.readString(length: end - buffer.readerIndex) ?? ""
                buffer.moveReaderIndex(forwardBy: 1)
                return text.hasSuffix("\r") ? String(text.dropLast()) : text
            }
            try await more()
        }
    }

    private func bytes(_ count: Int) async throws -> [UInt8] {
        while buffer.readableBytes < count { try await more() }
        return buffer.readBytes(length: count) ?? []
    }

    private func more() async throws {
        guard var next = try await iterator.next() else { throw ConnectionEnded() }
        buffer.discardReadBytes()
        buffer.writeBuffer(&next)
    }
}
