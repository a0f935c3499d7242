// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain

extension Lifecycle: StateControl {
    package func diff(
        _ name: SpriteName, from: StateReference, to: StateReference, options: TreeDiffOptions
    ) async throws -> TreeDiff {
        try await diff(try machine(name), from, to, options)
    }

    func diff(
        _ machine: Machine, _ from: StateReference, _ to: StateReference, _ options: TreeDiffOptions
    ) async throws -> TreeDiff {
        let sources = try await machine.sources(from, to)
        guard comparisons < Limits.diffsWaitingMax else {
            throw SpriteError(
                .limitReached, "cannot compare: \(comparisons) other comparisons are under way; try again in a moment")
        }
        comparisons += 1
        defer { comparisons -= 1 }
        // In the sprite's turn, so that nobody deletes what is being read.
        let changes = try await comparisonTurns.withTurn { [drivers] in
            try await machine.turns.withTurn {
                try await machine.checkExists()
                try Task.checkCancellation()
                let sprite = await machine.sprite
                return try await drivers.trees.changes(
                    base: sprite.base, layer: try await layerPath(sprite, drivers), from: sources.from, to: sources.to,
                    options: options)
            }
        }
        return TreeDiff(from: from, to: to, changes: changes)
    }

    package func diskUse(_ name: SpriteName) async throws -> DiskUse {
        let machine = try machine(name)
        guard comparisons < Limits.diffsWaitingMax else {
            throw SpriteError(
                .limitReached, "cannot measure: \(comparisons) others are under way; try again in a moment")
        }
        comparisons += 1
        defer { comparisons -= 1 }
        return try await comparisonTurns.withTurn { [drivers] in
            try Task.checkCancellation()
            try await machine.checkExists()
            var bases = Set(await machine.checkpoints.compactMap(\.base))
            bases.insert(await machine.sprite.base)
            return try await drivers.storage.diskUse(machine.id, bases: bases)
        }
    }

    package func restorePath(
        _ name: SpriteName, _ id: CheckpointID, path: String
    ) async throws -> (restored: RestoredPath, replaced: CheckpointID) {
        try await restorePath(try machine(name), name, path, from: id, removesAbsent: false)
    }

    func restorePath(
        _ machine: Machine, _ name: SpriteName, _ path: String, from id: CheckpointID, removesAbsent: Bool
    ) async throws -> (restored: RestoredPath, replaced: CheckpointID) {
        guard await !machine.isRestoring else { throw restoreUnderWay(name, "restore a path") }
        await machine.beginUse()
        // Finished or undone even if the client hangs up.
        let result = await Task {
            try await machine.turns.withTurn {
                try await machine.restorePath(path, from: id, removesAbsent: removesAbsent)
            }
        }.result
        await machine.endUse()
        return try result.get()
    }

    package func pin(_ name: SpriteName, _ id: CheckpointID, _ isPinned: Bool) async throws -> Checkpoint {
        let machine = try machine(name)
        return try await machine.turns.withTurn { try await machine.pin(id, isPinned) }
    }

    // MARK: Forks

    package func fork(
        _ source: SpriteName, to name: SpriteName, checkpoint: CheckpointID?, keepsIdentity: Bool
    ) async throws -> (view: SpriteView, identity: IdentityReport) {
        let origin = try machine(source)
        let sprite = try await copy(of: origin, as: name, at: checkpoint)
        let report = IdentityBox()
        let machine = try await fork(origin, sprite, checkpoint) { [drivers] in
            if keepsIdentity { return }
            await report.set(
                try await drivers.trees.renewIdentity(
                    sprite.id, base: sprite.base, layer: try await layerPath(sprite, drivers)))
        } settle: { [drivers] in
            guard await report.value.needsHostKeys else { return }
            await makeHostKeys(sprite.id, drivers)
        }
        let place = checkpoint.map(\.rawValue) ?? "its live state"
        origin.note(
            "sprite.forked", kind: .checkpoint, "forked to '\(name)' from \(place)",
            fields: [("fork", .text(machine.id.rawValue)), ("name", .text(name.rawValue))])
        machine.note(
            "sprite.forked", kind: .checkpoint, "forked from '\(source)', from \(place)",
            fields: [("origin", .text(origin.id.rawValue)), ("name", .text(source.rawValue))])
        var identity = await report.value
        if !keepsIdentity { identity.renewed.insert("hostname", at: 0) }
        return (await machine.view, identity)
    }

    func fork(
        _ origin: Machine, _ sprite: Sprite, _ checkpoint: CheckpointID?,
        prepare: @escaping @Sendable () async throws -> Void = {},
        settle: @escaping @Sendable () async -> Void = {}
    ) async throws -> Machine {
        let from = checkpoint.map { DiskSource.checkpoint(origin.id, $0) } ?? .live(origin.id)
        var policies: [PolicyKind: String] = [:]
        // What is dropped soon needs no checkpoints of its own.
        for kind in sprite.isEphemeral ? [PolicyKind.network] : [.network, .checkpoints] {
            policies[kind] = try await drivers.registry.policy(origin.id, kind)
        }
        // Only while the disk is copied must the origin keep still; its turn is free again before the fork starts.
        return try await make(
            sprite, from: from, policies: policies,
            around: { copy in
                try await origin.turns.withTurn {
                    try await origin.checkExists()
                    if let checkpoint {
                        _ = try await origin.checkpoint(checkpoint)
                        try await copy()
                    } else {
                        _ = try await origin.held(copy)
                    }
                }
            }, prepare: prepare, settle: settle)
    }

    /// On the base that the state was made on.
    private func copy(of origin: Machine, as name: SpriteName, at checkpoint: CheckpointID?) async throws -> Sprite {
        var sprite = await origin.copy(as: name)
        if let checkpoint, let base = try await origin.checkpoint(checkpoint).base { sprite.base = base }
        return sprite
    }

    /// A fork for one operation: with the host name of its origin, so that it differs from it in nothing, and gone at
    /// the next start of the daemon at the latest.
    func throwAway(_ origin: Machine, _ purpose: String, _ checkpoint: CheckpointID?) async throws -> Machine {
        let original = await origin.sprite
        let suffix = "\(SpriteID.random())".prefix(6)
        let prefix = original.name.rawValue.prefix(Limits.spriteNameBytesMax - purpose.utf8.count - 8)
        var sprite = try await copy(of: origin, as: try SpriteName("\(prefix)-\(purpose)-\(suffix)"), at: checkpoint)
        sprite.isEphemeral = true
        sprite.hostname = original.hostname ?? original.name.rawValue
        return try await fork(origin, sprite, checkpoint)
    }

    /// Never cancelled; what fails is left to the next start of the daemon.
    func drop(_ machine: Machine) async {
        let name = await machine.sprite.name
        await Task { [drivers] in
            do {
                try await destroy(name)
            } catch {
                drivers.logger.error(
                    "throw-away fork not removed", metadata: ["sprite.name": "\(name)", "error": "\(error)"])
            }
        }.value
    }
}

/// Carries a report out of a step of a creation.
private actor IdentityBox {
    private(set) var value = IdentityReport()
    func set(_ report: IdentityReport) { value = report }
}

/// New keys for the ssh server, where it is installed; without it there were none to remove.
private func makeHostKeys(_ sprite: SpriteID, _ drivers: Drivers) async {
    var request = ExecRequest(
        arguments: ["ssh-keygen", "-A"], directory: "/", user: "root", maxRunAfterDisconnect: .seconds(30))
    request.tag = "identity"
    do {
        let session = try await drivers.sessions.exec(sprite, request)
        _ = try await session.waitForExit()
    } catch {
        drivers.logger.warning("no new host keys made", metadata: ["sprite.id": "\(sprite)", "error": "\(error)"])
    }
}

extension Machine {
    func sources(_ from: StateReference, _ to: StateReference) throws -> (from: DiskSource, to: DiskSource) {
        func source(_ state: StateReference) throws -> DiskSource {
            switch state {
            case .live: return .live(id)
            case .checkpoint(let checkpointID):
                _ = try checkpoint(checkpointID)
                return .checkpoint(id, checkpointID)
            }
        }
        return (try source(from), try source(to))
    }

    /// What a fork takes over: limits, environment and labels.
    func copy(as name: SpriteName) -> Sprite {
        let now = Timestamp.now()
        return Sprite(
            id: .random(), name: name, base: sprite.base, limits: sprite.limits, idle: sprite.idle,
            environment: sprite.environment, labels: sprite.labels, urlAuthentication: sprite.urlAuthentication,
            createdAt: now, updatedAt: now, ociRuntime: sprite.ociRuntime, runtimes: sprite.runtimes)
    }
}

/// Where the layer of language runtimes under a sprite is, whether it runs or not.
func layerPath(_ sprite: Sprite, _ drivers: Drivers) async throws -> String? {
    if let mounted = try await mountedLayer(of: sprite, drivers) { return mounted }
    return sprite.runtimes == nil ? nil : try await layer(of: sprite, drivers)
}
