// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

/// One operation that a model can call.
struct Tool: Sendable {
    enum Effect: Sendable {
        /// Changes nothing.
        case reads
        /// Adds something, or can be taken back.
        case adds
        /// Takes something away.
        case destroys
    }

    var name: String
    var title: String
    /// What it does, what it changes, and how that is undone.
    var about: String
    var effect: Effect
    var isIdempotent = false
    var parameters: [Parameter]
    var run: @Sendable (ToolCall) async throws -> ToolResult

    var description: JSON {
        [
            "name": .string(name), "title": .string(title), "description": .string(about),
            "inputSchema": [
                "type": "object",
                "properties": .object(Dictionary(parameters.map { ($0.name, $0.schema) }, uniquingKeysWith: { $1 })),
                "required": .list(parameters.filter(\.isRequired).map { .string($0.name) }),
                "additionalProperties": false,
            ],
            "annotations": [
                "title": .string(title), "readOnlyHint": .bool(effect == .reads),
                "destructiveHint": .bool(effect == .destroys),
                "idempotentHint": .bool(isIdempotent || effect == .reads), "openWorldHint": false,
            ],
        ]
    }
}

/// What a tool is called with.
struct ToolCall: Sendable {
    var arguments: ToolArguments
    /// Tells a client that wants to know how far it is.
    var progress: @Sendable (_ text: String) async -> Void
}

/// What a tool answers: an object, and the same as text for models that read only that.
struct ToolResult: Sendable {
    var content: JSON
    var text: String
    /// Done when the answer has gone out; for what ends the one who reads it.
    var afterwards: (@Sendable () async -> Void)?

    init(_ content: JSON, text: String? = nil, afterwards: (@Sendable () async -> Void)? = nil) {
        self.content = content
        self.text = text ?? content.pretty
        self.afterwards = afterwards
    }
}

/// The sprites that a conversation can reach.
package enum MCPReach: Sendable {
    /// What the client's token is for; a client without one was let in by something else.
    case outside(AccessGrant?)
    /// Only the one that the client is in.
    case inside(SpriteID, SpriteName, user: UInt32)
}

/// What tools work with.
package struct MCPWorld: Sendable {
    package var control: any SpriteControl
    package var services: (any ServiceControl)?
    package var files: any MCPFiles
    /// Nil: there is no journal to read.
    package var journal: (any JournalReader)?
    /// The guide for agents, as sprites have it at /.sprite/llm.txt.
    package var guide: String
    package var version: String
    /// Begins a restore that ends the one who asks; returns once it is certain to begin.
    package var restoreInside: @Sendable (SpriteName, SpriteID, UInt32, CheckpointID?, String?) async throws -> Void

    package init(
        control: any SpriteControl, services: (any ServiceControl)?, files: any MCPFiles, guide: String,
        version: String,
        restoreInside:
            @escaping @Sendable (SpriteName, SpriteID, UInt32, CheckpointID?, String?) async throws -> Void
    ) {
        self.control = control
        self.services = services
        self.files = files
        self.guide = guide
        self.version = version
        self.restoreInside = restoreInside
    }
}

/// Files of sprites, with the sprite's own credentials.
///
/// Throws ``SpriteError``; a failure of the operation itself is `.invalidRequest` with the name of its error in POSIX.
package protocol MCPFiles: Sendable {
    /// Some bytes from an offset on, and the whole size.
    func read(_ sprite: SpriteName, _ path: String, offset: Int, limit: Int) async throws -> (bytes: [UInt8], size: Int)
    func write(_ sprite: SpriteName, _ path: String, _ bytes: [UInt8], mode: String?) async throws
    /// As JSON, as the API lists it.
    func list(_ sprite: SpriteName, _ path: String) async throws -> [UInt8]
    func delete(_ sprite: SpriteName, _ path: String, recursive: Bool) async throws
}
