// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

/// Serves the requests of one connection, one after another.
struct HTTPConnection: Sendable {
    let service: APIService
    let channel: HTTPConnectionChannel
    let firstRequest: FirstRequest
    let client: ClientConnection
    /// Set for a connection from inside a sprite.
    var caller: InsideCaller?

    func run() async {
        do {
            try await channel.executeThenClose { inbound, outbound in
                let parts = RequestParts(inbound)
                do {
                    var isFirst = true
                    while let head = try await nextHead(parts, isFirst: isFirst) {
                        let exchange = Exchange(
                            head: head, parts: parts, outbound: outbound, service: service, client: client,
                            mustClose: isFirst && caller == nil
                                ? firstRequest.askedForUpgrade : head.headers.contains(name: "upgrade"),
                            caller: caller)
                        await service.respond(to: exchange, first: isFirst ? firstRequest : nil)
                        isFirst = false
                        guard exchange.canContinue, try await parts.discardBody(bytesMax: 1 << 20) else { break }
                    }
                } catch let error as HTTPParserError {
                    if let body = MalformedRequest.body(error) {
                        try await outbound.write(contentsOf: [
                            .head(MalformedRequest.head(error, length: body.readableBytes)), .body(body), .end(nil),
                        ])
                    }
                }
                await linger(parts)
            }
        } catch {
            service.logger.debug("connection ended", metadata: ["error": "\(error)"])
        }
    }

    /// The first head, and all of inside, have deadlines of their own.
    private func nextHead(_ parts: RequestParts, isFirst: Bool) async throws -> HTTPRequestHead? {
        guard !isFirst, caller == nil else { return try await parts.nextHead() }
        let channel = channel.channel
        let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(service.configuration.timing.idleConnection)) {
            channel.close(promise: nil)
        }
        defer { deadline.cancel() }
        return try await parts.nextHead()
    }

    /// Ends a connection whose client may still be sending.
    ///
    /// Closing a socket with unread bytes resets it, and a client that gets the reset loses the answer; so our side is
    /// closed first, and what the client still sends is thrown away for a while.
    private func linger(_ parts: RequestParts) async {
        let channel = channel.channel
        // Returns when what was written has gone out, or can no longer.
        try? await channel.close(mode: .output)
        let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(service.configuration.timing.closeHandshake)) {
            channel.close(promise: nil)
        }
        await parts.discardAll()
        deadline.cancel()
    }
}

/// The answer to bytes that are not HTTP.
enum MalformedRequest {
    static func head(_ error: any Error, length: Int) -> HTTPResponseHead {
        HTTPResponseHead(
            version: .http1_1,
            status: (error as? HTTPParserError) == .headerOverflow ? .requestHeaderFieldsTooLarge : .badRequest,
            headers: ["content-type": "application/json", "content-length": "\(length)", "connection": "close"])
    }

    static func body(_ error: any Error) -> ByteBuffer? {
        guard let error = error as? HTTPParserError else { return nil }
        let reply =
            error == .headerOverflow
            ? API.ErrorBody(
                error: SpriteError.Code.tooLarge.rawValue,
                message:
                    "cannot read the request: its head is larger than \(Limits.requestHeadBytesMax) bytes or has more than "
                    + "\(Limits.requestHeadersMax) fields")
            : API.ErrorBody(
                error: SpriteError.Code.invalidRequest.rawValue, message: "cannot read the request: it is not HTTP/1.1")
        return try? JSONBody.encode(reply)
    }
}
