// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain
import SpriteMCP

extension APIService {
    /// Answers a request of a process in a sprite, for that sprite.
    func dispatchInside(_ exchange: Exchange, _ caller: InsideCaller) async throws {
        guard let inside = configuration.inside else { throw insideNotServed }
        try inside.count(caller.sprite)
        guard caller.isAllowed else {
            throw SpriteError(
                .forbidden, "user \(caller.user) may not use the sprite's API: use root or the user 'sprite' (sudo)")
        }
        // What a sprite sent before it was destroyed must never mean a later one of the same name.
        guard let sprite = try? await control.get(caller.name).sprite, sprite.id == caller.sprite else {
            throw SpriteError(.gone, "this sprite is gone")
        }
        guard let route = exchange.target.segments.flatMap({ InsideRoute($0, sprite: caller.name) }) else {
            throw SpriteError(
                .notFound,
                "cannot find '\(exchange.target.path)': this socket reaches only the sprite it is in; its paths are "
                    + "/v1/info, /v1/checkpoint, /v1/checkpoints, /v1/restore, /v1/diff, /v1/try, /v1/services, /v1/tasks and /v1/policy; "
                    + "see /.sprite/llm.txt")
        }
        guard route.methods.contains(exchange.method) else {
            throw SpriteError(
                .methodNotAllowed, "cannot \(exchange.method) this path: use \(route.methods.joined(separator: ", "))")
        }
        try await RequestOrigin.$current.withValue(.inside(user: caller.user)) {
            switch route {
            case .health: try await exchange.send(json: ["status": "ok", "version": configuration.version])
            case .restore(.some(let id)) where try exchange.target.query()["path"]?.isEmpty == false:
                // Nothing ends, so the answer is that of outside.
                try await perform(.restore(caller.name.rawValue, id: id), exchange)
            case .restore(let id): try await restoreFromInside(exchange, caller, id)
            case .lastRestore:
                guard let report = inside.lastRestore(caller.sprite) else {
                    throw SpriteError(.notFound, "no restore was asked for inside since the daemon started")
                }
                try await exchange.send(json: report)
            case .mcp: try await serveMCP(exchange, .inside(caller.sprite, caller.name, user: caller.user))
            case .conversation: try await converse(exchange, caller)
            case .shared(.createCheckpoint):
                try await checkRoomForCheckpoint(caller.name)
                try await perform(.createCheckpoint(caller.name.rawValue), exchange)
            case .shared(let shared): try await perform(shared, exchange)
            }
        }
    }

    func checkRoomForCheckpoint(_ name: SpriteName) async throws {
        let count = try await control.checkpoints(name, includeAutomatic: false).count
        guard count < Limits.insideCheckpointsMax else {
            throw SpriteError(
                .limitReached,
                "cannot create a checkpoint: the sprite has \(count), and from inside it can have "
                    + "\(Limits.insideCheckpointsMax); delete old ones (sprite-env checkpoints delete ID)")
        }
    }

    private var insideNotServed: SpriteError { SpriteError(.notFound, "there is no API inside sprites here") }
}
