// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain

extension Machine {
    func load(_ tasks: [SpriteTask]) {
        for task in tasks { self.tasks[task.name] = task }
    }

    /// Those that have not expired, oldest first.
    var liveTasks: [SpriteTask] {
        let now = Timestamp.now()
        return tasks.values.filter { $0.expiresAt > now }.sorted { ($0.startedAt, $0.name) < ($1.startedAt, $1.name) }
    }

    /// Whether a task keeps the sprite awake. The end of the last one counts as a use, so that what the task did
    /// is not frozen the moment it is over.
    func isHeldByTask() -> Bool {
        guard !tasks.isEmpty else { return false }
        let now = Timestamp.now()
        let expired = tasks.values.filter { $0.expiresAt <= now }.map(\.name)
        guard !expired.isEmpty else { return true }
        for name in expired { tasks[name] = nil }
        touch()
        // Only tidies: expired rows hold nothing awake. Nobody waits for it.
        Task { [drivers, id] in try? await drivers.registry.removeTasks(id, expired) }
        return !tasks.isEmpty
    }

    /// The caller holds the turn.
    func setTask(_ name: String, seconds: Int, isNew: Bool) async throws -> SpriteTask {
        try checkExists()
        _ = isHeldByTask()
        let now = Timestamp.now()
        let old = tasks[name]
        if isNew, let old {
            throw SpriteError(
                .alreadyExists,
                "cannot create task: '\(name)' is there and expires in "
                    + "\((old.expiresAt.nanoseconds - now.nanoseconds) / 1_000_000_000) s; use PUT to prolong it")
        }
        guard old != nil || tasks.count < Limits.tasksPerSpriteMax else {
            throw SpriteError(
                .limitReached,
                "cannot create task: the sprite has \(tasks.count), the limit is \(Limits.tasksPerSpriteMax); "
                    + "delete one, or prolong one with PUT")
        }
        let task = SpriteTask(
            name: name, startedAt: old?.startedAt ?? now,
            expiresAt: Timestamp(nanoseconds: now.nanoseconds + Int64(seconds) * 1_000_000_000))
        try await drivers.registry.setTask(id, task)
        tasks[name] = task
        touch()
        return task
    }

    /// The caller holds the turn.
    func endTask(_ name: String) async throws {
        try checkExists()
        guard liveTasks.contains(where: { $0.name == name }) else {
            throw SpriteError(.notFound, "there is no task '\(name)'; those there are can be listed")
        }
        try await drivers.registry.removeTasks(id, [name])
        tasks[name] = nil
        touch()
    }
}

extension Lifecycle {
    package func tasks(_ name: SpriteName) async throws -> [SpriteTask] { try await machine(name).liveTasks }

    package func setTask(
        _ name: SpriteName, _ task: String, seconds: Int, isNew: Bool
    ) async throws -> SpriteTask {
        let machine = try machine(name)
        // In a task of its own, awaited here: a client that hangs up must not cut the record off.
        let set = try await Task {
            try await machine.turns.withTurn { try await machine.setTask(task, seconds: seconds, isNew: isNew) }
        }.value
        try await wake(machine)
        return set
    }

    package func endTask(_ name: SpriteName, _ task: String) async throws {
        let machine = try machine(name)
        try await Task { try await machine.turns.withTurn { try await machine.endTask(task) } }.value
    }
}
