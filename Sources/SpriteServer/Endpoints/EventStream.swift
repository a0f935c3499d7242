// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

/// An NDJSON answer, one JSON object a line, each line sent at once.
///
/// The answer begins with the first line: until then an error can still be told by its own status.
final class EventStream: Sendable {
    private let exchange: Exchange
    private let hasBegun = NIOLockedValueBox(false)

    init(_ exchange: Exchange) { self.exchange = exchange }

    var isOpen: Bool { hasBegun.withLockedValue { $0 } }

    /// Sends lines; called by one task at a time.
    func send(_ events: [some Encodable]) async throws {
        var buffer = ByteBuffer()
        for event in events {
            var line = try JSONBody.encode(event)
            buffer.writeBuffer(&line)
            buffer.writeInteger(UInt8(ascii: "\n"))
        }
        let begun = hasBegun.withLockedValue { begun in
            defer { begun = true }
            return begun
        }
        // Not broken off with the task of who sends: a head that was lost like that, and what is sent after it,
        // would leave a client waiting for an answer that it never gets.
        try await Task { [buffer] in
            if !begun {
                try await exchange.begin(["content-type": "application/x-ndjson", "cache-control": "no-cache"])
            }
            try await exchange.write([buffer])
        }.value
    }

    func end() async throws { try await exchange.end() }
}

/// The stream of a checkpoint or restore: an opening line, lines of progress, and one that decides.
struct OperationStream: Sendable {
    let events: EventStream
    let opening: String

    init(_ exchange: Exchange, opening: String) {
        events = EventStream(exchange)
        self.opening = opening
    }

    /// Tells how it goes. A client that has gone does not stop the operation.
    func progress(_ text: String) async { try? await events.send(openingLines + [Self.event("info", text)]) }

    /// Runs the operation and ends the stream with its lines, or with an `error` line where the 200 is already out.
    func run(
        _ operation: (@escaping Progress) async throws -> [API.StreamEvent], requestID: String, service: APIService
    ) async throws {
        let lines: [API.StreamEvent]
        do {
            lines = try await operation { await progress($0) }
        } catch {
            guard events.isOpen else { throw error }
            let reply = ErrorReply(error, requestID: requestID, logger: service.logger)
            var line = Self.event("error", reply.body.message)
            line.error = reply.body.message
            line.code = reply.body.error
            try await events.send([line])
            try await events.end()
            return
        }
        try await events.send(openingLines + lines)
        try await events.end()
    }

    private var openingLines: [API.StreamEvent] { events.isOpen ? [] : [Self.event("info", opening)] }

    static func event(_ type: String, _ text: String) -> API.StreamEvent {
        API.StreamEvent(type: type, data: text, time: Timestamp.now().text)
    }
}
