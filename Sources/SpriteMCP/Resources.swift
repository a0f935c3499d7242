// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// What a model can read without calling anything.
extension Toolbox {
    func resources() async throws -> [JSON] {
        var found: [JSON] = [
            [
                "uri": "sprite://guide", "name": "llm.txt", "title": "Guide to sprites for agents",
                "mimeType": "text/markdown",
            ]
        ]
        let names: [SpriteName]
        switch reach {
        case .outside:
            names = try await world.control.list(prefix: "", after: nil, limit: 50, in: scope).sprites.map(
                \.sprite.name)
        case .inside(_, let name, _): names = [name]
        }
        for name in names {
            found.append([
                "uri": .string("sprite://\(name)/checkpoints"), "name": .string("checkpoints of \(name)"),
                "mimeType": "application/json",
            ])
        }
        return found
    }

    var templates: [JSON] {
        [
            [
                "uriTemplate": "sprite://{sprite}/checkpoints", "name": "checkpoints", "mimeType": "application/json",
                "description": "The checkpoints of a sprite, newest first.",
            ],
            [
                "uriTemplate": "sprite://{sprite}/logs", "name": "journal", "mimeType": "application/json",
                "description": "The newest lines recorded about a sprite, where the server keeps a journal.",
            ],
            [
                "uriTemplate": "sprite://{sprite}/services/{service}/logs", "name": "service logs",
                "mimeType": "text/plain", "description": "The last lines that a service printed.",
            ],
        ]
    }

    /// The text and its type; nil for what is not there.
    func read(_ uri: String) async throws -> (text: String, type: String)? {
        if uri == "sprite://guide" { return (world.guide, "text/markdown") }
        guard uri.hasPrefix("sprite://") else { return nil }
        let parts = uri.dropFirst("sprite://".count).split(separator: "/", omittingEmptySubsequences: false).map(
            String.init)
        guard let first = parts.first, let name = try? SpriteName(first) else { return nil }
        // Inside there is one sprite, whatever is asked for.
        if case .inside(_, let own, _) = reach, own != name { return nil }
        let arguments = JSON.object(spriteParameter.isEmpty ? [:] : ["sprite": .string(first)])
        switch parts.dropFirst().first {
        case "checkpoints" where parts.count == 2:
            return (try await result("list_checkpoints", arguments), "application/json")
        case "logs" where parts.count == 2 && world.journal != nil:
            return (try await result("read_logs", arguments), "application/json")
        case "services" where parts.count == 4 && parts[3] == "logs":
            guard case .object(var members) = arguments else { return nil }
            members["service"] = .string(parts[2])
            let result = try await call("service_logs", .object(members)) { _ in }
            return (result.content["output"]?.text ?? "", "text/plain")
        default: return nil
        }
    }

    private func result(_ tool: String, _ arguments: JSON) async throws -> String {
        try await call(tool, arguments) { _ in }.text
    }

    func call(
        _ name: String, _ arguments: JSON?, _ progress: @escaping @Sendable (String) async -> Void
    ) async throws -> ToolResult {
        guard let tool = tools.first(where: { $0.name == name }) else { throw UnknownTool() }
        return try await tool.run(
            ToolCall(arguments: try ToolArguments(arguments, tool.parameters), progress: progress))
    }
}

struct UnknownTool: Error {}
