// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain
import SpriteMCP

extension APIService {
    /// `/mcp`: the streamable HTTP transport of the Model Context Protocol, a message a request.
    ///
    /// Besides the protocol's own session header there are two parameters for programs that carry messages between it
    /// and their standard input and output: `conversation`, chosen by them, and `form=lines` for an answer in lines.
    func serveMCP(_ exchange: Exchange, _ reach: MCPReach) async throws {
        if exchange.method == "DELETE" {
            guard let id = exchange.head.headers.first(name: "mcp-session-id"), conversations.remove(id, reach) else {
                throw SpriteError(.notFound, "there is no such session")
            }
            return try await exchange.send(.noContent)
        }
        let message: JSON
        do {
            message = try await exchange.requiredBody(JSON.self)
        } catch let error as SpriteError where error.code == .invalidRequest {
            return try await exchange.send(.badRequest, json: MCPServer.failure(nil, -32700, error.message))
        }
        if let refusal = headerProblem(exchange.head.headers, message) {
            return try await exchange.send(.badRequest, json: refusal)
        }
        let query = try exchange.target.query()
        var headers: HTTPHeaders = [:]
        let conversation: MCPConversation
        if let chosen = query["conversation"], (8...64).contains(chosen.utf8.count) {
            conversation = try conversations.find(chosen, making: reach)
        } else if message["method"] == "initialize" {
            let made = try conversations.make(reach)
            headers.add(name: "mcp-session-id", value: made.id)
            conversation = made.conversation
        } else if let id = exchange.head.headers.first(name: "mcp-session-id") {
            guard let found = conversations.find(id, reach) else {
                // Clients begin a new session when they see this.
                throw SpriteError(.notFound, "there is no such session; begin a new one with initialize")
            }
            conversation = found
        } else {
            conversation = MCPConversation(reach)
        }
        guard MCPServer.isRequest(message) else {
            await mcp.handle(message, in: conversation) { _ in }
            return try await exchange.send(.accepted, headers)
        }
        let isLines = query["form"] == "lines"
        let accepts = exchange.head.headers[canonicalForm: "accept"].contains { $0.contains("text/event-stream") }
        if isLines || (accepts && message["method"] == "tools/call") {
            try await stream(exchange, message, conversation, headers, isLines: isLines)
        } else {
            let answer = NIOLockedValueBox<JSON?>(nil)
            await mcp.handle(message, in: conversation) { sent in answer.withLockedValue { $0 = sent } }
            let body = answer.withLockedValue { $0 } ?? MCPServer.failure(message["id"], -32603, "cancelled")
            let isVersionRefused = body["error"]?["code"] == .integer(-32022)
            try await exchange.send(isVersionRefused ? .badRequest : .ok, json: body, headers)
        }
    }

    /// What is wrong with the headers that repeat what the message says.
    private func headerProblem(_ headers: HTTPHeaders, _ message: JSON) -> JSON? {
        guard let header = headers.first(name: "mcp-protocol-version") else { return nil }
        let known = MCPServer.handshakeVersions + [MCPServer.modernVersion]
        if let version = MCPServer.version(of: message), version != .string(header) {
            return MCPServer.failure(
                message["id"], -32020, "the header MCP-Protocol-Version does not say the version of the message")
        }
        guard known.contains(header) else {
            return MCPServer.failure(
                message["id"], -32022, "this protocol version is not served",
                data: ["supported": .list(known.map { .string($0) }), "requested": .string(header)])
        }
        return nil
    }

    /// Messages as server-sent events, or as lines; a quiet stream says something now and then.
    private func stream(
        _ exchange: Exchange, _ message: JSON, _ conversation: MCPConversation, _ headers: HTTPHeaders, isLines: Bool
    ) async throws {
        var headers = headers
        headers.add(name: "content-type", value: isLines ? "application/x-ndjson" : "text/event-stream")
        headers.add(name: "cache-control", value: "no-cache")
        try await exchange.begin(headers)
        // In the version whose requests stand alone, leaving is how a client cancels.
        let cancelsByLeaving = MCPServer.version(of: message) != nil
        let keepalive = configuration.timing.keepalive
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                await mcp.handle(message, in: conversation) { sent in
                    var buffer = ByteBuffer()
                    if !isLines { buffer.writeString("event: message\ndata: ") }
                    buffer.writeBytes(sent.bytes)
                    buffer.writeString(isLines ? "\n" : "\n\n")
                    try? await exchange.write([buffer])
                }
                return true
            }
            group.addTask {
                var quiet = ContinuousClock.now
                while true {
                    try await Task.sleep(for: .milliseconds(100))
                    if cancelsByLeaving, exchange.client.isGone { return false }
                    if ContinuousClock.now - quiet > keepalive {
                        quiet = .now
                        try await exchange.write([ByteBuffer(string: isLines ? "\n" : ": still running\n\n")])
                    }
                }
            }
            defer { group.cancelAll() }
            _ = try await group.next()
        }
        try await exchange.end()
    }

    // MARK: A conversation in lines

    /// `/mcp/stdio` inside: lines both ways for as long as the client keeps its side open.
    func converse(_ exchange: Exchange, _ caller: InsideCaller) async throws {
        guard let inside = configuration.inside else { return }
        exchange.closeAfterwards()
        try await exchange.sendContinue()
        try await exchange.begin(["content-type": "application/x-ndjson", "cache-control": "no-cache"], closing: true)
        let conversation = MCPConversation(.inside(caller.sprite, caller.name, user: caller.user))
        @Sendable func send(_ message: JSON) async {
            try? await exchange.write([ByteBuffer(bytes: message.bytes + [0x0A])])
        }
        var pending = ByteBuffer()
        try await withThrowingDiscardingTaskGroup { group in
            defer { if Task.isCancelled { conversation.cancelAll() } }
            while let piece = try await exchange.parts.nextBody() {
                pending.writeImmutableBuffer(piece)
                while let end = pending.readableBytesView.firstIndex(of: 0x0A) {
                    let line = pending.readSlice(length: end - pending.readerIndex) ?? ByteBuffer()
                    pending.moveReaderIndex(forwardBy: 1)
                    if line.readableBytes == 0 { continue }
                    guard let message = JSON.parse(Array(line.readableBytesView)) else {
                        await send(MCPServer.failure(nil, -32700, "the line is not JSON"))
                        continue
                    }
                    do { try inside.count(caller.sprite) } catch {
                        await send(MCPServer.failure(message["id"], -32000, "too many requests; wait a second"))
                        continue
                    }
                    guard MCPServer.isRequest(message) else {
                        await mcp.handle(message, in: conversation) { _ in }
                        continue
                    }
                    guard conversation.count < Limits.mcpRequestsMax else {
                        await send(MCPServer.failure(message["id"], -32000, "too many requests are under way"))
                        continue
                    }
                    group.addTask { await mcp.handle(message, in: conversation) { await send($0) } }
                }
                pending.discardReadBytes()
                guard pending.readableBytes <= Limits.jsonBodyBytesMax else {
                    await send(
                        MCPServer.failure(nil, -32700, "the line is longer than \(Limits.jsonBodyBytesMax) bytes"))
                    throw ChannelError.inputClosed
                }
            }
        }
        try await exchange.end()
    }
}

/// Conversations over HTTP, whose requests come one by one.
final class MCPConversations: Sendable {
    /// A client that never says goodbye leaves one behind: the oldest of the same owner goes.
    private static let countMax = 256
    private static let countInsideMax = 16

    private struct Kept {
        var id: String
        var owner: String
        var conversation: MCPConversation
    }

    private let all = NIOLockedValueBox<[Kept]>([])

    func make(_ reach: MCPReach) throws -> (id: String, conversation: MCPConversation) {
        let id = (0..<2).map { _ in String(UInt64.random(in: (1 << 60)...(.max)), radix: 36) }.joined()
        return (id, add(id, reach))
    }

    /// The one that a client chose the id of; what is said inside and outside is never the same.
    func find(_ id: String, making reach: MCPReach) throws -> MCPConversation {
        find("chosen:\(id)", reach) ?? add("chosen:\(id)", reach)
    }

    func find(_ id: String, _ reach: MCPReach) -> MCPConversation? {
        let owner = owner(reach)
        return all.withLockedValue { $0.first { $0.id == id && $0.owner == owner }?.conversation }
    }

    /// False if it is not there, or somebody else's.
    func remove(_ id: String, _ reach: MCPReach) -> Bool {
        let owner = owner(reach)
        let removed = all.withLockedValue { all -> MCPConversation? in
            guard let place = all.firstIndex(where: { $0.id == id && $0.owner == owner }) else { return nil }
            return all.remove(at: place).conversation
        }
        removed?.cancelAll()
        return removed != nil
    }

    private func add(_ id: String, _ reach: MCPReach) -> MCPConversation {
        let made = MCPConversation(reach)
        let owner = owner(reach)
        let limit = if case .outside = reach { MCPConversations.countMax } else { MCPConversations.countInsideMax }
        all.withLockedValue { all in
            all.append(Kept(id: id, owner: owner, conversation: made))
            let own = all.indices.filter { all[$0].owner == owner }
            if own.count > limit { all.remove(at: own[0]) }
        }
        return made
    }

    private func owner(_ reach: MCPReach) -> String {
        switch reach {
        case .outside(let grant): "outside \(grant?.tokenID ?? "")"
        case .inside(let sprite, _, _): sprite.rawValue
        }
    }
}
