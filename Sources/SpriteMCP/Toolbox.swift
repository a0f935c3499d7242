// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import SpriteDomain

/// The tools of one kind of client, with what they need to find the sprite that is meant.
struct Toolbox: Sendable {
    let world: MCPWorld
    let reach: MCPReach
    let runs: CommandRuns

    var tools: [Tool] {
        switch reach {
        case .outside(let grant):
            outsideTools.filter { $0.effect == .reads || grant?.scope.isReadOnly != true }
        case .inside: [getSprite] + checkpointTools + serviceTools + taskTools + policyTools + logTools
        }
    }

    private var outsideTools: [Tool] {
        spriteTools + commandTools + fileTools + checkpointTools + serviceTools + taskTools + policyTools + logTools
    }

    /// Outside, a tool is told the sprite; inside, there is one.
    var spriteParameter: [Parameter] {
        switch reach {
        case .outside:
            [.text("sprite", "Name of the sprite; list_sprites shows those there are.", required: true, bytesMax: 63)]
        case .inside: []
        }
    }

    func sprite(_ arguments: ToolArguments) async throws -> SpriteName {
        switch reach {
        case .outside: return try allowed(try SpriteName(arguments.text("sprite") ?? ""))
        case .inside(let id, let name, _):
            guard try await world.control.get(name).sprite.id == id else {
                throw SpriteError(.gone, "this sprite is gone")
            }
            return name
        }
    }

    /// Throws `.forbidden` unless the client's token is for this sprite. Tools that change something are not offered
    /// at all to a token for reading.
    func allowed(_ name: SpriteName) throws -> SpriteName {
        if case .outside(.some(let grant)) = reach { try grant.require(name.rawValue, toWrite: false) }
        return name
    }

    /// The sprites that the client's token is for.
    var scope: AccessScope {
        if case .outside(.some(let grant)) = reach { grant.scope } else { .all }
    }

    func checkpointID(_ text: String?) throws -> CheckpointID {
        guard let text, let id = CheckpointID(text) else {
            throw SpriteError(
                .invalidRequest, "'\(text?.prefix(40) ?? "")' is no checkpoint; ids look like v3 or auto-1")
        }
        return id
    }
}

extension Timestamp {
    var json: JSON { .string(API.TimeText.text(nanoseconds: nanoseconds)) }
}

extension String {
    var json: JSON { .string(self) }
}

/// What a model can do about an error, by its code.
func advice(_ error: SpriteError) -> String {
    switch error.code {
    case .notFound:
        "Next: list what there is (list_sprites, list_checkpoints, list_services, list_tasks) and use a name from it."
    case .forbidden: "Next: use what the token of this server is for (list_sprites), or ask the operator for another."
    case .alreadyExists: "Next: use another name, or the one that is there."
    case .conflict: "Next: wait a moment and look at the state again; something else is under way or depends on it."
    case .gone: "Next: start it again; what has ended cannot be used."
    case .invalidRequest: "Next: correct the argument and call again."
    case .noSpace: "Next: free space: delete old checkpoints (delete_checkpoint) or files."
    case .limitReached: "Next: delete what is no longer needed, or wait a moment and try again."
    case .timeout, .unavailable: "Next: try again in a few seconds."
    case .unsupported: "Next: this host cannot do it; do it another way."
    default: "Next: try once more; if it fails again, tell the operator."
    }
}
