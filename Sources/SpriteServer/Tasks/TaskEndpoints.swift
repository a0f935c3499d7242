// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    /// `…/tasks`: what holds the sprite awake.
    func serveTasks(_ exchange: Exchange, _ sprite: SpriteName) async throws {
        switch exchange.method {
        case "GET":
            try await exchange.send(json: API.TaskList(tasks: try await control.tasks(sprite).map(wire)))
        default:
            let body = try await exchange.requiredBody(API.SetTask.self)
            guard let name = body.name else {
                throw SpriteError(.invalidRequest, "cannot read the request body: 'name' is missing")
            }
            try await set(exchange, sprite, name, body, isNew: exchange.method == "POST")
        }
    }

    func serveTask(_ exchange: Exchange, _ sprite: SpriteName, _ name: String) async throws {
        switch exchange.method {
        case "GET":
            guard let task = try await control.tasks(sprite).first(where: { $0.name == name }) else {
                throw SpriteError(.notFound, "there is no task '\(name.prefix(100))'")
            }
            try await exchange.send(json: wire(task))
        case "DELETE":
            try await control.endTask(sprite, name)
            try await exchange.send(.noContent)
        default:
            let body = try await exchange.body(API.SetTask.self) ?? API.SetTask()
            try await set(exchange, sprite, name, body, isNew: false)
        }
    }

    private func set(
        _ exchange: Exchange, _ sprite: SpriteName, _ name: String, _ body: API.SetTask, isNew: Bool
    ) async throws {
        let task = try await control.setTask(
            sprite, SpriteTask.checkedName(name), seconds: try Self.seconds(body.expire), isNew: isNew)
        try await exchange.send(isNew ? .created : .ok, json: wire(task))
    }

    static func seconds(_ expire: API.SetTask.Expire?) throws -> Int {
        let duration: Duration?
        switch expire {
        case nil: return Limits.taskSecondsDefault
        case .seconds(let seconds): duration = .seconds(seconds)
        case .text(let text): duration = API.DurationText.parse(text)
        }
        guard let duration, duration >= .seconds(1), duration <= .seconds(Limits.taskSecondsMax) else {
            throw SpriteError(
                .invalidRequest,
                "invalid 'expire': use seconds or a duration such as 30m, from 1s to 1h; prolong the task with PUT "
                    + "before it expires if the work takes longer")
        }
        return Int(duration.components.seconds)
    }

    func wire(_ task: SpriteTask) -> API.Task {
        API.Task(name: task.name, startedAt: task.startedAt.text, expiresAt: task.expiresAt.text)
    }
}
