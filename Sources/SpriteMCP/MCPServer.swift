// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import Logging
import SpriteDomain

/// The Model Context Protocol: one message in, messages out; transports carry them.
///
/// Speaks the versions that begin with `initialize`, and the later one whose every request says its version in
/// `_meta`. Source: https://modelcontextprotocol.io/specification.
package struct MCPServer: Sendable {
    /// Versions that are agreed on by `initialize`, oldest first.
    package static let handshakeVersions = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
    /// The version whose requests stand alone.
    package static let modernVersion = "2026-07-28"
    static let versionKey = "io.modelcontextprotocol/protocolVersion"
    static let serverKey = "io.modelcontextprotocol/serverInfo"

    private let world: MCPWorld
    private let logger: Logger
    private let runs = CommandRuns()

    package init(_ world: MCPWorld, logger: Logger) {
        self.world = world
        self.logger = logger
    }

    /// Whether a message is a request, which is answered.
    package static func isRequest(_ message: JSON) -> Bool {
        message["method"]?.text != nil && message["id"] != nil && message["id"] != .null
    }

    /// The version that a request says it is written in; nil for those that rely on a handshake.
    package static func version(of message: JSON) -> JSON? { message["params"]?["_meta"]?[versionKey] }

    package static func failure(_ id: JSON?, _ code: Int, _ message: String, data: JSON? = nil) -> JSON {
        var error: [String: JSON] = ["code": .integer(code), "message": .string(message)]
        if let data { error["data"] = data }
        return ["jsonrpc": "2.0", "id": id ?? .null, "error": .object(error)]
    }

    /// Answers one message. Returns when everything that belongs to it has been sent; nothing is sent for a request that
    /// was cancelled.
    package func handle(
        _ message: JSON, in conversation: MCPConversation, send: @escaping @Sendable (JSON) async -> Void
    ) async {
        guard message["jsonrpc"] == "2.0" else {
            await send(Self.failure(message["id"], -32600, "a message is a JSON-RPC 2.0 object; batches are not taken"))
            return
        }
        guard let method = message["method"]?.text else {
            // An answer to a request of ours, of which there are none.
            return
        }
        guard Self.isRequest(message), let id = message["id"] else {
            if method == "notifications/cancelled", let request = message["params"]?["requestId"] {
                conversation.cancel(request)
            }
            return
        }
        let work = Task {
            let answer = await answer(method, id, message["params"], conversation, send)
            if Task.isCancelled { return }
            await send(answer.message)
            await answer.afterwards?()
        }
        guard conversation.begin(id, work) else {
            work.cancel()
            await send(Self.failure(id, -32600, "a request with this id is under way"))
            return
        }
        await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            work.cancel()
        }
        conversation.end(id)
    }

    private typealias Answer = (message: JSON, afterwards: (@Sendable () async -> Void)?)

    private func answer(
        _ method: String, _ id: JSON, _ params: JSON?, _ conversation: MCPConversation,
        _ send: @escaping @Sendable (JSON) async -> Void
    ) async -> Answer {
        let toolbox = Toolbox(world: world, reach: conversation.reach, runs: runs)
        if let version = params?["_meta"]?[Self.versionKey], version != .string(Self.modernVersion) {
            let supported = (Self.handshakeVersions + [Self.modernVersion]).map { JSON.string($0) }
            return (
                Self.failure(
                    id, -32022, "this protocol version is not served",
                    data: ["supported": .list(supported), "requested": version]), nil
            )
        }
        switch method {
        case "tools/call": return await callTool(id, params, toolbox, send)
        case "initialize": return (success(id, initialized(params)), nil)
        case "server/discover": return (success(id, discovered), nil)
        case "ping": return (success(id, [:]), nil)
        case "tools/list":
            return (success(id, ["tools": .list(toolbox.tools.map(\.description))], ttl: 60_000), nil)
        case "resources/list":
            return await withErrors(id) { success(id, ["resources": .list(try await toolbox.resources())]) }
        case "resources/templates/list":
            return (success(id, ["resourceTemplates": .list(toolbox.templates)], ttl: 60_000), nil)
        case "resources/read":
            guard let uri = params?["uri"]?.text else { return (Self.failure(id, -32602, "'uri' is missing"), nil) }
            return await withErrors(id) {
                guard let (text, type) = try await toolbox.read(uri) else {
                    return Self.failure(
                        id, -32602, "there is no such resource; resources/list shows those there are",
                        data: ["uri": .string(uri)])
                }
                return success(
                    id, ["contents": [["uri": .string(uri), "mimeType": .string(type), "text": .string(text)]]])
            }
        default: return (Self.failure(id, -32601, "there is no method '\(method.prefix(64))' here"), nil)
        }
    }

    private func withErrors(_ id: JSON, _ body: () async throws -> JSON) async -> Answer {
        do {
            return (try await body(), nil)
        } catch let error as SpriteError where error.code != .internalError {
            return (Self.failure(id, error.code == .notFound ? -32602 : -32603, error.message), nil)
        } catch {
            logger.error("model context request failed", metadata: ["error": "\(error)"])
            return (Self.failure(id, -32603, "internal error"), nil)
        }
    }

    private func callTool(
        _ id: JSON, _ params: JSON?, _ toolbox: Toolbox, _ send: @escaping @Sendable (JSON) async -> Void
    ) async -> Answer {
        guard let name = params?["name"]?.text else { return (Self.failure(id, -32602, "'name' is missing"), nil) }
        let token = params?["_meta"]?["progressToken"]
        let count = Locked(0)
        let progress: @Sendable (String) async -> Void = { text in
            guard let token, token != .null else { return }
            let number = count.with { count in
                count += 1
                return count
            }
            await send([
                "jsonrpc": "2.0", "method": "notifications/progress",
                "params": ["progressToken": token, "progress": .integer(number), "message": .string(text)],
            ])
        }
        do {
            let result = try await toolbox.call(name, params?["arguments"], progress)
            let content: JSON = [
                "content": [["type": "text", "text": .string(result.text)]], "structuredContent": result.content,
                "isError": false,
            ]
            return (success(id, content), result.afterwards)
        } catch is UnknownTool {
            return (
                Self.failure(id, -32602, "there is no tool '\(name.prefix(64))'; tools/list shows those there are"), nil
            )
        } catch let failure as ToolFailure {
            return (failed(id, failure.message + ". Next: correct the argument and call again."), nil)
        } catch let error as SpriteError {
            if error.code == .internalError {
                logger.error("tool failed", metadata: ["tool": "\(name)", "error": "\(error)"])
            }
            return (failed(id, "\(error.message). \(advice(error))"), nil)
        } catch is CancellationError {
            return (failed(id, "cancelled"), nil)
        } catch {
            logger.error("tool failed", metadata: ["tool": "\(name)", "error": "\(error)"])
            return (failed(id, "internal error. Next: try once more; if it fails again, tell the operator."), nil)
        }
    }

    private func failed(_ id: JSON, _ text: String) -> JSON {
        success(id, ["content": [["type": "text", "text": .string(text)]], "isError": true])
    }

    /// Fields of the later version are harmless to clients of the earlier ones.
    private func success(_ id: JSON, _ result: JSON, ttl: Int = 0) -> JSON {
        guard case .object(var members) = result else { return ["jsonrpc": "2.0", "id": id, "result": result] }
        members["resultType"] = "complete"
        members["ttlMs"] = .integer(ttl)
        members["cacheScope"] = "private"
        return ["jsonrpc": "2.0", "id": id, "result": .object(members)]
    }

    private var info: JSON { ["name": "sprite-env", "title": "Sprites", "version": .string(world.version)] }
    private var capabilities: JSON { ["tools": [:], "resources": [:]] }

    private var instructions: JSON {
        .string(
            "Sprites are persistent Linux computers whose whole disk can be checkpointed and restored in milliseconds. "
                + "Make a checkpoint before anything risky; restore it when it went wrong; undo_restore takes that back. "
                + "Read the resource sprite://guide first.")
    }

    private func initialized(_ params: JSON?) -> JSON {
        let requested = params?["protocolVersion"]?.text ?? ""
        let version = Self.handshakeVersions.contains(requested) ? requested : Self.handshakeVersions.last ?? requested
        return [
            "protocolVersion": .string(version), "capabilities": capabilities, "serverInfo": info,
            "instructions": instructions,
        ]
    }

    private var discovered: JSON {
        [
            "supportedVersions": .list((Self.handshakeVersions + [Self.modernVersion]).map { .string($0) }),
            "capabilities": capabilities, "instructions": instructions, "_meta": .object([Self.serverKey: info]),
        ]
    }
}

/// The requests of one client that are under way.
package final class MCPConversation: Sendable {
    package let reach: MCPReach
    private let requests = Locked<[JSON: Task<Void, Never>]>([:])

    package init(_ reach: MCPReach) { self.reach = reach }

    func begin(_ id: JSON, _ work: Task<Void, Never>) -> Bool {
        requests.with { requests in
            guard requests[id] == nil else { return false }
            requests[id] = work
            return true
        }
    }

    func end(_ id: JSON) { requests.with { $0[id] = nil } }
    func cancel(_ id: JSON) { requests.with { $0[id] }?.cancel() }
    package func cancelAll() { for work in requests.with({ Array($0.values) }) { work.cancel() } }
    package var count: Int { requests.with { $0.count } }
}
