// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain

extension Lifecycle: SpriteControl {
    package func create(_ creation: SpriteCreation) async throws -> SpriteView {
        try drivers.sandboxes.checkLimits(creation.limits)
        if let runtime = creation.ociRuntime { try drivers.sandboxes.checkRuntime(runtime) }
        let wanted = if let base = creation.base { base } else { try await defaultBase() }
        let base = try await version(wanted, "create sprite")
        let now = Timestamp.now()
        var sprite = Sprite(
            id: .random(), name: creation.name, base: base, limits: creation.limits, idle: creation.idle,
            environment: creation.environment, labels: creation.labels,
            urlAuthentication: creation.urlAuthentication, createdAt: now, updatedAt: now,
            ociRuntime: creation.ociRuntime, runtimes: try await runtimes(creation.runtimes, base: base))
        sprite.startsWithHost = creation.startsWithHost
        return try await make(sprite, from: .empty).view
    }

    package func list(prefix: String, after: String?, limit: Int) async throws -> SpritePage {
        let (machines, next) = page(prefix: prefix, after: after, limit: max(1, limit))
        var views: [SpriteView] = []
        for machine in machines { views.append(await machine.view) }
        return SpritePage(sprites: views, next: next, counts: await counts())
    }

    package func get(_ name: SpriteName) async throws -> SpriteView {
        try await machine(name).view
    }

    package func update(_ name: SpriteName, _ update: SpriteUpdate) async throws -> SpriteView {
        let machine = try machine(name)
        if let limits = update.limits { try drivers.sandboxes.checkLimits(limits) }
        return try await machine.turns.withTurn { [drivers] in
            try await machine.checkExists()
            var sprite = await machine.sprite
            if let labels = update.labels { sprite.labels = labels }
            if let authentication = update.urlAuthentication { sprite.urlAuthentication = authentication }
            if let idle = update.idle { sprite.idle = idle }
            if let startsWithHost = update.startsWithHost { sprite.startsWithHost = startsWithHost }
            if let limits = update.limits {
                let former = sprite.limits
                sprite.limits = limits
                if await machine.sandbox != nil, limits.ofSandbox != former.ofSandbox {
                    try await drivers.sandboxes.setLimits(machine.id, limits)
                }
                if let sandbox = await machine.sandbox, !limits.hasNetworkLimits(of: former) {
                    try await drivers.network.limit(sandbox.address, limits)
                }
                if limits.diskMiB != former.diskMiB {
                    try await drivers.storage.limitDisk(machine.id, bytes: limits.diskBytes)
                }
            }
            sprite.updatedAt = .now()
            try await drivers.registry.update(sprite)
            await machine.setSprite(sprite)
            machine.note("sprite.updated", "settings changed")
            return await machine.view
        }
    }

    package func destroy(_ name: SpriteName) async throws {
        let machine = try machine(name)
        let drivers = drivers
        // Not cancelled when the client hangs up: half a deletion helps nobody.
        try await Task {
            try await machine.turns.withTurn {
                try await machine.checkExists()
                let intent = Intent.destroy(machine.id)
                try await drivers.registry.begin(intent)
                FaultPoint.destroyBegun.reached()
                try await machine.stop()
                FaultPoint.destroyStopped.reached()
                await machine.setDestroyed()
                try await drivers.storage.deleteDisk(machine.id)
                FaultPoint.destroyDiskDeleted.reached()
                try await drivers.registry.complete(intent, .removed)
                FaultPoint.destroyCompleted.reached()
                await drivers.network.forget(machine.id)
                machine.note("sprite.destroyed", "destroyed")
            }
        }.value
        remove(name)
    }

    package func fork(
        _ source: SpriteName, to name: SpriteName, checkpoint: CheckpointID?
    ) async throws -> SpriteView {
        try await fork(source, to: name, checkpoint: checkpoint, keepsIdentity: false).view
    }

    package func checkpoint(_ name: SpriteName, comment: String?, progress: Progress) async throws -> Checkpoint {
        if let comment, comment.utf8.count > Limits.commentBytesMax {
            throw SpriteError(
                .invalidRequest,
                "cannot create checkpoint: the comment is \(comment.utf8.count) bytes, "
                    + "the limit is \(Limits.commentBytesMax)")
        }
        let machine = try machine(name)
        guard await !machine.isRestoring else { throw restoreUnderWay(name, "create a checkpoint") }
        // Finished or undone even if the client hangs up.
        return try await Task {
            try await machine.turns.withTurn { try await machine.makeCheckpoint(comment: comment) }
        }.value
    }

    package func checkpoints(_ name: SpriteName, includeAutomatic: Bool) async throws -> [Checkpoint] {
        try await machine(name).checkpoints.reversed().filter { includeAutomatic || !$0.id.isAutomatic }
    }

    package func checkpoint(_ name: SpriteName, _ id: CheckpointID) async throws -> Checkpoint {
        try await machine(name).checkpoint(id)
    }

    package func deleteCheckpoint(_ name: SpriteName, _ id: CheckpointID) async throws {
        let machine = try machine(name)
        guard await !machine.isRestoring else { throw restoreUnderWay(name, "delete a checkpoint") }
        try await Task {
            try await machine.turns.withTurn { try await machine.removeCheckpoint(id) }
        }.value
    }

    package func restore(
        _ name: SpriteName, _ id: CheckpointID, then followUp: FollowUp?, progress: Progress
    ) async throws -> CheckpointID {
        let machine = try machine(name)
        _ = try await machine.checkpoint(id)
        return try await restore(machine, name, then: followUp, progress) { id }
    }

    package func undoRestore(
        _ name: SpriteName, then followUp: FollowUp?, progress: Progress
    ) async throws -> CheckpointID {
        let machine = try machine(name)
        guard let newest = await machine.newestUndone else {
            throw SpriteError(.notFound, "cannot undo: sprite '\(name)' was never restored")
        }
        if let path = newest.path {
            await progress("Restoring \(path)...")
            let replaced = try await restorePath(machine, name, path, from: newest.id, removesAbsent: true).replaced
            // Nothing was ended: whoever asked still runs, and sees it if the daemon is killed here.
            if let followUp {
                await start(followUp, in: machine, replaced: replaced, origin: "\(RequestOrigin.current)")
            }
            return replaced
        }
        return try await restore(machine, name, then: followUp, progress) { newest.id }
    }

    func restore(
        _ machine: Machine, _ name: SpriteName, then followUp: FollowUp? = nil, _ progress: Progress,
        _ target: @escaping @Sendable () async throws -> CheckpointID
    ) async throws -> CheckpointID {
        guard await machine.claimRestore() else { throw restoreUnderWay(name, "restore") }
        let checkpoint: CheckpointID
        do {
            // Before the first word of progress: what asked from inside is told then, and ends.
            checkpoint = try await target()
        } catch {
            await machine.endRestore()
            throw error
        }
        await progress("Stopping the sprite...")
        // Once begun it is finished, whether or not the client stays.
        return try await Task {
            do {
                let begin = ContinuousClock.now
                let resumption = try await machine.turns.withTurn {
                    let resumption = try await machine.replaceDisk(with: checkpoint, then: followUp)
                    _ = try await machine.start()
                    FaultPoint.restoreRunning.reached()
                    await machine.thinAutomaticCheckpoints()
                    return resumption
                }
                await machine.endRestore()
                // Behind the answer: whoever restores does not wait for what the sprite does afterwards.
                Task { await resume(machine, resumption) }
                machine.note(
                    "restore.completed", kind: .checkpoint, "running again after the restore",
                    fields: [("duration_ms", .milliseconds(since: begin))])
                return resumption.replaced
            } catch {
                await machine.endRestore()
                machine.note(
                    "restore.failed", kind: .checkpoint, level: .error,
                    "restore failed: \(SpriteError.sentence(error))")
                throw error
            }
        }.value
    }

    package func exec(_ name: SpriteName, _ request: ExecRequest) async throws -> any ExecSession {
        let machine = try machine(name)
        await machine.beginUse()
        do {
            if request.tag == nil { await checkpointBefore(request, machine) }
            let session = try await execAwake(machine, request)
            await machine.endUse()
            return session
        } catch {
            await machine.endUse()
            throw error
        }
    }

    /// A restore may stop the sprite between the look at it and the start of the command: then it is waited for.
    func execAwake(_ machine: Machine, _ request: ExecRequest) async throws -> any ExecSession {
        var triesLeft = 3
        while true {
            try await wake(machine)
            do {
                return try await drivers.journal.span("exec.spawn", sprite: machine.id) {
                    try await drivers.sessions.exec(machine.id, request)
                }
            } catch let error as SpriteError where error.code == .unavailable && triesLeft > 0 {
                triesLeft -= 1
                // The end of the sandbox may not have been noticed yet.
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    package func sessions(_ name: SpriteName) async throws -> [SessionInfo] {
        await drivers.sessions.sessions(try machine(name).id)
    }

    package func session(_ name: SpriteName, _ id: String, ended: Bool) async throws -> any ExecSession {
        let machine = try machine(name)
        // A sprite that sleeps has its sessions still; one that is cold has none.
        if await machine.isFrozen { try await wake(machine) }
        await machine.touch()
        return try await drivers.sessions.session(machine.id, id, ended: ended)
    }

    package func policy(_ name: SpriteName, _ kind: PolicyKind) async throws -> String? {
        try await drivers.registry.policy(try machine(name).id, kind)
    }

    package func setPolicy(_ name: SpriteName, _ kind: PolicyKind, _ text: String?) async throws {
        let machine = try machine(name)
        let checkpoints = kind == .checkpoints ? try text.map(CheckpointPolicy.init(text:)) : nil
        // Once begun it is finished, whether or not the client stays.
        try await Task { [drivers] in
            if kind == .network {
                try await machine.turns.withTurn { try await machine.setNetworkPolicy(text) }
            } else {
                try await drivers.registry.setPolicy(machine.id, kind, text)
            }
        }.value
        if kind == .checkpoints { await machine.setPolicy(checkpoints ?? CheckpointPolicy()) }
        machine.note(
            "policy.changed", "\(kind.rawValue) policy \(text == nil ? "removed" : "set")",
            fields: [("policy", .text(kind.rawValue))])
    }

    package func networkContacts(_ name: SpriteName) async throws -> [NetworkContact] {
        await drivers.network.contacts(try machine(name).id)
    }

    package func use(_ name: SpriteName) async throws -> any SpriteUse {
        let machine = try machine(name)
        await machine.beginUse()
        do {
            return Use(machine, processID: try await wake(machine).processID)
        } catch {
            await machine.endUse()
            throw error
        }
    }

    /// - Returns: What runs. Whoever does not hold the turn has begun a use before, or it may be put to sleep again.
    @discardableResult
    func wake(_ machine: Machine) async throws -> Sandbox {
        if let sandbox = await machine.ready { return sandbox }
        return try await machine.turns.withTurn { try await machine.start() }
    }
}

func restoreUnderWay(_ name: SpriteName, _ verb: String) -> SpriteError {
    SpriteError(.conflict, "cannot \(verb): a restore of sprite '\(name)' is under way; wait until it is done")
}

func noSuchSprite(_ name: SpriteName) -> SpriteError {
    SpriteError(.notFound, "no sprite is named '\(name)'; `sprite list` shows those there are")
}
