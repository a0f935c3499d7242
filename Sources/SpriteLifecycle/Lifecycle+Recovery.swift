// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

extension Lifecycle {
    /// Makes registry, disk and sandboxes agree after a start, whatever ended the last run. Call before serving.
    ///
    /// The registry says what should exist; the host says what does. What a crash left half done is finished
    /// (restore, deletion) or undone (creation, checkpoint): neither was acknowledged. Data that nobody knows is
    /// left where it is and reported, never deleted.
    package func recover() async throws {
        var running: [SpriteID: Sandbox] = [:]
        for sandbox in try await drivers.sandboxes.running() { running[sandbox.id] = sandbox }

        for intent in try await drivers.registry.intents() {
            drivers.logger.notice("finishing what was under way", metadata: ["intent": "\(intent)"])
            if let id = intent.stopsSandbox, running.removeValue(forKey: id) != nil {
                try await drivers.sandboxes.destroy(id)
            }
            try await settle(intent, running)
        }

        var sprites = try await drivers.registry.sprites()
        for sprite in sprites where sprite.isEphemeral {
            // Made for one operation, which ended with the last daemon.
            let intent = Intent.destroy(sprite.id)
            try await drivers.registry.begin(intent)
            if running.removeValue(forKey: sprite.id) != nil { try await drivers.sandboxes.destroy(sprite.id) }
            try await settle(intent, running)
        }
        sprites.removeAll { $0.isEphemeral }
        let known = Set(sprites.map(\.id))
        for id in running.keys where !known.contains(id) {
            drivers.logger.warning("ending a sandbox of no known sprite", metadata: ["sprite.id": "\(id)"])
            running[id] = nil
            try await drivers.sandboxes.destroy(id)
        }
        try await compareDisks(sprites)
        for sprite in sprites {
            await limitDisk(sprite)
            let checkpoints = try await drivers.registry.checkpoints(sprite.id)
            let initSystem = try await drivers.initSystem(sprite.base)
            let machine = Machine(sprite, checkpoints: checkpoints, initSystem: initSystem, drivers: drivers) {
                await self.stopLongestFrozen()
            }
            await machine.load(try await drivers.registry.tasks(sprite.id))
            if let text = try await drivers.registry.policy(sprite.id, .checkpoints),
                let policy = try? CheckpointPolicy(text: text)
            {
                await machine.setPolicy(policy)
            }
            if let sandbox = running[sprite.id] { await readopt(sandbox, machine, sprite) }
            add(machine, as: sprite.name)
        }
        await drivers.network.liftAbandoned()
    }

    /// The last daemon may have ended between the row and the limit; free where it is set already.
    private func limitDisk(_ sprite: Sprite) async {
        do {
            try await drivers.storage.limitDisk(sprite.id, bytes: sprite.limits.diskBytes)
        } catch {
            drivers.logger.error(
                "the disk of a sprite has no limit", metadata: ["sprite.id": "\(sprite.id)", "error": "\(error)"])
        }
    }

    private func readopt(_ sandbox: Sandbox, _ machine: Machine, _ sprite: Sprite) async {
        await drivers.network.adopt(address: sandbox.address)
        do {
            if await hasLostLayer(sprite, drivers) {
                throw SpriteError(.unavailable, "its runtimes are gone: JuiceFS ended together with the last daemon")
            }
            let policy = try await drivers.registry.policy(sprite.id, .network)
            try await drivers.network.apply(policy: policy, to: sandbox.address, of: sprite.id)
            try await drivers.network.limit(sandbox.address, sprite.limits)
            try await drivers.sandboxes.showPolicy(sprite.id, policy ?? #"{"rules":[]}"#)
            let brokerage = try await drivers.broker(sprite.id, at: sandbox.address)
            if let brokerage { try await drivers.sandboxes.showAuthority(sprite.id, brokerage.authority.certificate) }
            // A checkpoint may have been under way: nobody else lets the sprite go on, and frozen it cannot answer.
            try await drivers.sandboxes.thaw(sprite.id)
            try await drivers.sessions.connect(
                sprite.id,
                setup: AgentSetup(
                    hostname: sprite.hostname ?? sprite.name.rawValue, nameServers: drivers.network.nameServers,
                    environment: sprite.environment(brokerage)))
            await machine.adopt(sandbox)
            await drivers.inside.started(sprite.id, sprite.name)
        } catch {
            drivers.logger.error(
                "a running sprite does not answer and is stopped",
                metadata: ["sprite.id": "\(sprite.id)", "error": "\(error)"])
            await drivers.sessions.disconnect(sprite.id)
            try? await drivers.sandboxes.destroy(sprite.id)
            await drivers.network.release(address: sandbox.address)
        }
    }

    private func settle(_ intent: Intent, _ running: [SpriteID: Sandbox]) async throws {
        switch intent {
        case .create(let sprite, _):
            try await drivers.storage.deleteDisk(sprite.id)
            try await drivers.registry.abandon(intent)
        case .checkpoint(let id, let checkpoint):
            try await drivers.storage.deleteSnapshot(id, checkpoint)
            try await drivers.registry.abandon(intent)
        case .deleteCheckpoint(let id, let checkpoint):
            try await drivers.storage.deleteSnapshot(id, checkpoint)
            try await drivers.registry.complete(intent, .removed)
        case .restorePath(let id, _):
            do {
                try await drivers.trees.cleanRestoredPaths(id, processID: running[id]?.processID)
            } catch {
                drivers.logger.error("restore of a path not cleaned up", metadata: ["error": "\(error)"])
            }
            try await drivers.registry.abandon(intent)
        case .destroy(let id):
            try await drivers.storage.deleteDisk(id)
            try await drivers.registry.complete(intent, .removed)
        case .restore(let id, let target, let replaced):
            try await drivers.storage.restore(id, from: .checkpoint(id, target), keepingReplacedAs: replaced)
            guard var sprite = try await drivers.registry.sprites().first(where: { $0.id == id }) else { return }
            let kept = keptState(replaced, of: sprite, for: target)
            sprite.source = target
            let checkpoints = try await drivers.registry.checkpoints(id)
            if let base = checkpoints.first(where: { $0.id == target })?.base { sprite.base = base }
            try await drivers.registry.complete(intent, .written(sprite, kept))
        }
    }

    private func compareDisks(_ sprites: [Sprite]) async throws {
        var disks = try await drivers.storage.inventory()
        for sprite in sprites {
            let disk = disks.removeValue(forKey: sprite.id)
            if disk?.hasLiveDisk != true {
                drivers.logger.error("the disk of a sprite is missing", metadata: ["sprite.id": "\(sprite.id)"])
            }
            let present = disk?.checkpoints ?? []
            for checkpoint in try await drivers.registry.checkpoints(sprite.id)
            where checkpoint.id != .initial && !present.contains(checkpoint.id) {
                drivers.logger.error(
                    "a checkpoint is missing on the disk",
                    metadata: ["sprite.id": "\(sprite.id)", "checkpoint.id": "\(checkpoint.id)"])
            }
        }
        for unknown in disks.keys {
            drivers.logger.error(
                "a disk belongs to no known sprite; it is left as it is", metadata: ["sprite.id": "\(unknown)"])
        }
    }
}

extension Intent {
    /// The sprite whose sandbox cannot go on while this is finished or undone.
    fileprivate var stopsSandbox: SpriteID? {
        switch self {
        case .create(let sprite, _): sprite.id
        case .restore(let id, _, _), .destroy(let id): id
        case .checkpoint, .deleteCheckpoint, .restorePath: nil
        }
    }
}
