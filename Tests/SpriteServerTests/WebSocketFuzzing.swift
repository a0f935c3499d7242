// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOEmbedded
import NIOWebSocket
import SpriteDomain

#if canImport(SpriteServer)
@testable import SpriteServer
#endif

// What must hold for any bytes that a client sends after the handshake. The unit tests try a fixed number of inputs,
// `make fuzz` as many as there is time for.

/// Gives bytes to a WebSocket's server side, in pieces, and an answer in between; nil if nothing is wrong with how that
/// went.
func webSocketProblem(_ bytes: [UInt8]) -> String? {
    let channel = EmbeddedChannel()
    do {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(
            ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: Limits.webSocketMessageBytesMax)))
        try pipeline.addHandler(WebSocketEndpoint(timing: .init(), traffic: WebSocketTraffic()))
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    } catch {
        return "the connection cannot be made: \(error)"
    }
    // The library tells of broken frames by errors, which the endpoint has to turn into a Close.
    var next = 0
    while next < bytes.count {
        let end = min(bytes.count, next + 1 + Int(bytes[next]))
        do {
            try channel.writeInbound(ByteBuffer(bytes: bytes[next..<end]))
        } catch let error as NIOWebSocketError {
            return "the endpoint let an error through: \(error)"
        } catch {}
        if bytes[next] & 7 == 0 {
            _ = try? channel.writeOutbound(WebSocketOutput.stream(1, ByteBuffer(bytes: bytes[next..<end])))
        }
        next = end
    }
    var messages: [WebSocketMessage] = []
    while let message = try? channel.readInbound(as: WebSocketMessage.self) { messages.append(message) }
    for (index, message) in messages.enumerated() {
        switch message {
        case .text(let data), .binary(let data):
            if data.readableBytes > Limits.webSocketMessageBytesMax { return "a message over the limit came through" }
        case .closed:
            if index != messages.count - 1 { return "a message came after the end" }
        }
    }
    var sent: [UInt8] = []
    while let buffer = try? channel.readOutbound(as: ByteBuffer.self) { sent += buffer.readableBytesView }
    _ = try? channel.finish(acceptAlreadyClosed: true)
    // Timers that were forgotten would come now.
    channel.embeddedEventLoop.advanceTime(by: .hours(1))
    return answerProblem(sent)
}

/// Whether everything sent is whole, unmasked frames without extensions, of which nothing follows a Close.
private func answerProblem(_ sent: [UInt8]) -> String? {
    var rest = sent[...]
    var isClosed = false
    while let first = rest.popFirst() {
        if isClosed { return "something was sent after the Close frame" }
        guard first & 0xF0 == 0x80, [1, 2, 8, 9, 10].contains(first & 0x0F), var length = rest.popFirst().map(Int.init)
        else { return "a frame begins with \(first)" }
        if length & 0x80 != 0 { return "a frame of the server is masked" }
        let more = length == 126 ? 2 : (length == 127 ? 8 : 0)
        if more > 0 {
            guard rest.count >= more else { return "a frame ends in its length" }
            length = rest.prefix(more).reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(more)
        }
        guard rest.count >= length else { return "a frame is \(length) bytes long and has \(rest.count)" }
        if first & 0x08 != 0, length > 125 { return "a control frame is \(length) bytes long" }
        isClosed = first & 0x0F == 8
        rest = rest.dropFirst(length)
    }
    return nil
}
