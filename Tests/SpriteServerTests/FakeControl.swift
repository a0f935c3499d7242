// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import SpriteDomain

/// Sprites in memory, with commands that only these tests know, to test the wire forms.
final class FakeControl: SpriteControl {
    struct State {
        var sprites: [SpriteName: Sprite] = [:]
        var checkpoints: [SpriteName: [Checkpoint]] = [:]
        var sessions: [String: FakeSession] = [:]
        var policies: [String: String] = [:]
        var failure: (any Error)?
        var tasks: [String: SpriteTask] = [:]
        var nextSession = 100
    }
    let state = NIOLockedValueBox(State())

    /// Every call throws this from now on.
    func fail(with error: (any Error)?) { state.withLockedValue { $0.failure = error } }

    private func checked<Value>(_ name: SpriteName, _ body: (inout State, Sprite) throws -> Value) throws -> Value {
        try state.withLockedValue { state in
            if let failure = state.failure { throw failure }
            guard let sprite = state.sprites[name] else {
                throw SpriteError(.notFound, "there is no sprite named '\(name)'")
            }
            return try body(&state, sprite)
        }
    }

    func create(_ creation: SpriteCreation) async throws -> SpriteView {
        try state.withLockedValue { state in
            if let failure = state.failure { throw failure }
            guard state.sprites[creation.name] == nil else {
                throw SpriteError(.alreadyExists, "cannot create sprite: the name '\(creation.name)' is taken")
            }
            let now = Timestamp(nanoseconds: 1_770_091_506_123_456_789)
            let sprite = Sprite(
                id: .random(), name: creation.name, base: try creation.base ?? BaseName("debian"),
                limits: creation.limits, environment: creation.environment, labels: creation.labels,
                urlAuthentication: creation.urlAuthentication, createdAt: now, updatedAt: now)
            state.sprites[creation.name] = sprite
            state.checkpoints[creation.name] = [
                Checkpoint(sprite: sprite.id, id: .initial, createdAt: now)
            ]
            return SpriteView(sprite: sprite, status: .running)
        }
    }

    func list(prefix: String, after: String?, limit: Int) async throws -> SpritePage {
        state.withLockedValue { state in
            let all = state.sprites.values.filter {
                $0.name.rawValue.hasPrefix(prefix) && $0.name.rawValue > (after ?? "")
            }.sorted { $0.name.rawValue < $1.name.rawValue }
            let page = all.prefix(limit)
            return SpritePage(
                sprites: page.map { SpriteView(sprite: $0, status: .running) },
                next: all.count > page.count ? page.last?.name.rawValue : nil)
        }
    }

    func get(_ name: SpriteName) async throws -> SpriteView {
        try checked(name) { _, sprite in SpriteView(sprite: sprite, status: .running) }
    }

    func update(_ name: SpriteName, _ update: SpriteUpdate) async throws -> SpriteView {
        try checked(name) { state, sprite in
            var sprite = sprite
            if let labels = update.labels { sprite.labels = labels }
            if let authentication = update.urlAuthentication { sprite.urlAuthentication = authentication }
            if let limits = update.limits { sprite.limits = limits }
            state.sprites[name] = sprite
            return SpriteView(sprite: sprite, status: .running)
        }
    }

    func destroy(_ name: SpriteName) async throws {
        try checked(name) { state, _ in
            state.sprites[name] = nil
            for session in state.sessions.values { session.finish(.lost) }
        }
    }

    func stop(_ name: SpriteName) async throws -> SpriteView { try await get(name) }

    func restart(_ name: SpriteName) async throws -> SpriteView { try await get(name) }

    func upgrade(_ name: SpriteName, runtimes: String?) async throws -> SpriteView { try await get(name) }

    func fork(_ source: SpriteName, to name: SpriteName, checkpoint: CheckpointID?) async throws -> SpriteView {
        let view = try await get(source)
        return try await create(SpriteCreation(name: name, labels: view.sprite.labels))
    }

    func checkpoint(_ name: SpriteName, comment: String?, progress: Progress) async throws -> Checkpoint {
        if comment == "slow" { await progress("  Flushing...") }
        return try checked(name) { state, sprite in
            if comment == "late failure" || comment == "slow" {
                throw SpriteError(.noSpace, "cannot checkpoint: the pool is full")
            }
            var sprite = sprite
            let checkpoint = Checkpoint(
                sprite: sprite.id, id: .version(sprite.nextVersion), createdAt: sprite.createdAt, comment: comment,
                source: sprite.source, flush: .microseconds(1200), snapshot: .microseconds(5250))
            sprite.nextVersion += 1
            sprite.source = checkpoint.id
            state.sprites[name] = sprite
            state.checkpoints[name, default: []].insert(checkpoint, at: 0)
            return checkpoint
        }
    }

    func checkpoints(_ name: SpriteName, includeAutomatic: Bool) async throws -> [Checkpoint] {
        try checked(name) { state, _ in
            (state.checkpoints[name] ?? []).filter { includeAutomatic || !$0.id.isAutomatic }
        }
    }

    func checkpoint(_ name: SpriteName, _ id: CheckpointID) async throws -> Checkpoint {
        try checked(name) { state, _ in
            guard let found = state.checkpoints[name]?.first(where: { $0.id == id }) else {
                throw SpriteError(.notFound, "there is no checkpoint '\(id)'")
            }
            return found
        }
    }

    func deleteCheckpoint(_ name: SpriteName, _ id: CheckpointID) async throws {
        _ = try await checkpoint(name, id)
        try checked(name) { state, sprite in
            guard sprite.source != id, id != .initial else {
                throw SpriteError(.conflict, "cannot delete checkpoint '\(id)': the live state descends from it")
            }
            state.checkpoints[name]?.removeAll { $0.id == id }
        }
    }

    func restore(
        _ name: SpriteName, _ id: CheckpointID, then: FollowUp?, progress: Progress
    ) async throws -> CheckpointID {
        .automatic(1)
    }

    func undoRestore(_ name: SpriteName, then: FollowUp?, progress: Progress) async throws -> CheckpointID {
        try checked(name) { _, _ in throw SpriteError(.notFound, "cannot undo: there was no restore") }
    }

    func upgradeBase(_ name: SpriteName, to base: BaseName?, isTrial: Bool) async throws -> BaseUpgrade {
        throw SpriteError(.unsupported, "the sprites of this test have no bases")
    }

    func networkContacts(_ name: SpriteName) async throws -> [NetworkContact] { [] }

    func policy(_ name: SpriteName, _ kind: PolicyKind) async throws -> String? {
        try checked(name) { state, _ in state.policies["\(name) \(kind)"] }
    }

    func setPolicy(_ name: SpriteName, _ kind: PolicyKind, _ text: String?) async throws {
        try checked(name) { state, _ in state.policies["\(name) \(kind)"] = text }
    }

    func secrets(_ name: SpriteName) async throws -> [BrokeredSecret] { [] }
    func setSecret(_ name: SpriteName, _ secret: BrokeredSecret) async throws {}
    func removeSecret(_ name: SpriteName, _ id: String) async throws {}
    func tasks(_ name: SpriteName) async throws -> [SpriteTask] {
        try checked(name) { state, _ in state.tasks.values.sorted { $0.name < $1.name } }
    }

    func setTask(_ name: SpriteName, _ task: String, seconds: Int, isNew: Bool) async throws -> SpriteTask {
        try checked(name) { state, _ in
            guard !isNew || state.tasks[task] == nil else { throw SpriteError(.alreadyExists, "'\(task)' is there") }
            let made = SpriteTask(
                name: task, startedAt: Timestamp(nanoseconds: 0),
                expiresAt: Timestamp(nanoseconds: Int64(seconds) * 1_000_000_000))
            state.tasks[task] = made
            return made
        }
    }

    func endTask(_ name: SpriteName, _ task: String) async throws {
        try checked(name) { state, _ in
            guard state.tasks.removeValue(forKey: task) != nil else {
                throw SpriteError(.notFound, "there is no task '\(task)'")
            }
        }
    }

    func use(_ name: SpriteName) async throws -> any SpriteUse {
        try checked(name) { _, sprite in FakeUse(id: sprite.id) }
    }

    func exec(_ name: SpriteName, _ request: ExecRequest) async throws -> any ExecSession {
        try checked(name) { state, sprite in
            if request.arguments[0] == "missing-user" {
                throw SpriteError(.invalidRequest, "cannot run: there is no user 'nobody-here'")
            }
            state.nextSession += 1
            let session = FakeSession(id: "\(state.nextSession)", request: request)
            state.sessions[session.info.id] = session
            return session
        }
    }

    func sessions(_ name: SpriteName) async throws -> [SessionInfo] {
        try checked(name) { state, _ in
            state.sessions.values.filter { !$0.hasEnded }.map(\.info).sorted { $0.id < $1.id }
        }
    }

    func session(_ name: SpriteName, _ id: String, ended: Bool) async throws -> any ExecSession {
        try checked(name) { state, _ in
            guard let session = state.sessions[id] else {
                throw SpriteError(.notFound, "there is no session '\(id)'")
            }
            guard !session.hasEnded else { throw SpriteError(.gone, "session '\(id)' has ended") }
            return session
        }
    }
}

private final class FakeUse: SpriteUse {
    let id: SpriteID
    let processID: Int32 = 1
    init(id: SpriteID) { self.id = id }
    func end() {}
}
