// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import Synchronization

typealias WebSocketChannel = NIOAsyncChannel<WebSocketMessage, WebSocketOutput>

/// A WebSocket after its handshake, as the code that serves it sees it.
struct WebSocketConnection: Sendable {
    let inbound: NIOAsyncChannelInboundStream<WebSocketMessage>
    let outbound: NIOAsyncChannelOutboundWriter<WebSocketOutput>
    let channel: any Channel
    let traffic: WebSocketTraffic
}

/// How many bytes of messages went through, without frames' headers.
final class WebSocketTraffic: Sendable {
    private let bytes = Mutex((in: 0, out: 0))

    func received(_ count: Int) { bytes.withLock { $0.in += count } }
    func sent(_ count: Int) { bytes.withLock { $0.out += count } }
    var total: (in: Int, out: Int) { bytes.withLock { $0 } }
}

/// What a client sends.
enum WebSocketMessage: Sendable {
    case text(ByteBuffer)
    case binary(ByteBuffer)
    /// The peer closed, or broke the protocol; the connection ends by itself soon.
    case closed
}

/// What is sent to a client.
enum WebSocketOutput: Sendable {
    case text(ByteBuffer)
    case binary(ByteBuffer)
    /// A binary message that begins with a stream's byte; the payload is not copied.
    case stream(UInt8, ByteBuffer)
    /// The exit frame, after which the client is expected to close; if it does not in time, Close 1000 is sent.
    case exit(UInt8)
    /// A Close frame; what is sent after it is dropped, and the connection ends with the peer's Close or soon after
    /// everything sent has arrived.
    case close(UInt16, String)
    /// From now on, this is what goes out when the connection was quiet for a while.
    case keepalive(Keepalive)

    enum Keepalive: Sendable {
        /// A message: some clients of exec count nothing else.
        case message
        /// A ping, where every message has a meaning.
        case ping
    }
}
