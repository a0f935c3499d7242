// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1

extension SpritesClient {
    /// Sends one message of the Model Context Protocol to the server and hands out the messages it answers.
    ///
    /// - Parameters:
    ///   - message: A JSON-RPC object.
    ///   - conversation: 8 to 64 characters chosen by the caller, the same for all messages of one client.
    ///   - onMessage: Called for each message, which is a line without its end.
    /// - Throws: ``SpritesError``.
    public func sendModelContext(
        _ message: [UInt8], conversation: String, onMessage: ([UInt8]) async throws -> Void
    ) async throws {
        // Tools wait for ten minutes at most.
        try await http.lines(
            .POST, "/mcp?form=lines&conversation=\(API.PercentCoding.encode(conversation))", body: message,
            timeout: .seconds(900)
        ) { line in try await onMessage(Array(line.readableBytesView)) }
    }
}
