// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1

/// A response part whose body is a plain buffer: NIO's own holds a file region, which cannot cross tasks.
typealias ResponsePart = HTTPPart<HTTPResponseHead, ByteBuffer>
typealias HTTPConnectionChannel = NIOAsyncChannel<HTTPServerRequestPart, ResponsePart>

/// The requests of one connection, read part by part.
///
/// `@unchecked`: the connection's task owns it, and lends it to one child task at a time, which it awaits before it
/// reads on itself.
final class RequestParts: @unchecked Sendable {
    private var iterator: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
    private var isInBody = false

    init(_ inbound: NIOAsyncChannelInboundStream<HTTPServerRequestPart>) { iterator = inbound.makeAsyncIterator() }

    /// The next request's head; nil when the client has closed its side.
    func nextHead() async throws -> HTTPRequestHead? {
        while let part = try await iterator.next() {
            if case .head(let head) = part {
                isInBody = true
                return head
            }
        }
        return nil
    }

    /// The next piece of the body; nil at its end.
    func nextBody() async throws -> ByteBuffer? {
        guard isInBody else { return nil }
        switch try await iterator.next() {
        case .body(let buffer):
            return buffer
        case .end:
            isInBody = false
            return nil
        case .head, nil:
            isInBody = false
            throw ChannelError.inputClosed
        }
    }

    /// Reads the rest of a body away, at most so many bytes; false if there was more.
    func discardBody(bytesMax: Int) async throws -> Bool {
        var count = 0
        while let buffer = try await nextBody() {
            count += buffer.readableBytes
            if count > bytesMax { return false }
        }
        return true
    }

    /// Reads everything away until the client closes its side or the channel is closed.
    func discardAll() async {
        while (try? await iterator.next()) != nil {}
    }
}
