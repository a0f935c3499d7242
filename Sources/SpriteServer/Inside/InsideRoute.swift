// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// The paths of the API inside a sprite: those of the API outside without `/sprites/NAME`, as far as a sprite may.
enum InsideRoute: Sendable, Equatable {
    /// A path whose body and answer are lines that go on until one side ends.
    static let conversationPath = "/mcp/stdio"

    case health
    /// The same as outside, for this sprite.
    case shared(Route)
    case restore(id: String?)
    /// How the last restore that was asked for inside went.
    case lastRestore
    /// The Model Context Protocol, a message a request, and in lines.
    case mcp
    case conversation

    init?(_ segments: [String], sprite: SpriteName) {
        switch segments {
        case ["health"]: self = .health
        case ["mcp"]: self = .mcp
        case ["mcp", "stdio"]: self = .conversation
        case ["v1", "info"]: self = .shared(.sprite(sprite.rawValue))
        case ["v1", "restore"]: self = .lastRestore
        default:
            guard segments.count >= 2, segments[0] == "v1", InsideRoute.sections.contains(segments[1]),
                let route = Route(["v1", "sprites", sprite.rawValue] + segments.dropFirst())
            else { return nil }
            switch route {
            case .restore(_, let id): self = .restore(id: id)
            case .undoRestore: self = .restore(id: nil)
            default: self = .shared(route)
            }
        }
    }

    /// First parts of paths that lead to the sprite itself and change nothing outside it.
    private static let sections: Set<String> = [
        "checkpoint", "checkpoints", "services", "tasks", "policy", "restore", "logs", "diff", "try",
    ]

    var methods: [String] {
        switch self {
        case .health, .lastRestore, .shared(.sprite), .shared(.policy): ["GET", "HEAD"]
        case .restore, .conversation: ["POST"]
        case .mcp: ["POST", "DELETE"]
        case .shared(let route): route.methods
        }
    }
}
