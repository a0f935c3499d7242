// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain

/// All sprites of one daemon. Life events of one sprite take turns; different sprites never wait for each other.
package actor Lifecycle {
    let drivers: Drivers
    let defaultBase: @Sendable () async throws -> BaseName
    /// Comparisons under way or waiting, in all sprites together.
    var comparisons = 0
    /// They take memory and read a lot, so they take turns.
    let comparisonTurns = TurnQueue()
    private var machines: [SpriteName: Machine] = [:]
    /// Names being created: taken, but nothing can be asked of them yet.
    private var reserved: Set<SpriteName> = []

    package init(drivers: Drivers, defaultBase: @escaping @Sendable () async throws -> BaseName) {
        self.drivers = drivers
        self.defaultBase = defaultBase
    }

    func machine(_ name: SpriteName) throws -> Machine {
        guard let machine = machines[name] else { throw noSuchSprite(name) }
        return machine
    }

    /// Whether any sprite runs or is frozen.
    package func hasSandboxes() async -> Bool {
        for machine in machines.values where await machine.sandbox != nil { return true }
        return false
    }

    func all() -> [Machine] { Array(machines.values) }

    /// The frozen sprite that nobody has used for the longest time, of those that may be stopped.
    func longestFrozen() async -> Machine? {
        var found: (machine: Machine, unused: Duration)?
        for machine in machines.values {
            guard let unused = await machine.stoppable, unused > found?.unused ?? .zero else { continue }
            found = (machine, unused)
        }
        return found?.machine
    }

    /// Stops it; false if there is none, or it cannot be stopped.
    func stopLongestFrozen() async -> Bool {
        guard let machine = await longestFrozen() else { return false }
        return await machine.giveWay(because: .awakeLimit)
    }

    func counts() async -> [SpriteStatus: Int] {
        var counts: [SpriteStatus: Int] = [.running: 0, .warm: 0, .cold: 0]
        for machine in machines.values { counts[await machine.status, default: 0] += 1 }
        return counts
    }
    func add(_ machine: Machine, as name: SpriteName) { machines[name] = machine }
    func remove(_ name: SpriteName) { machines[name] = nil }

    func reserve(_ name: SpriteName) throws {
        guard machines[name] == nil, reserved.insert(name).inserted else {
            throw SpriteError(
                .alreadyExists,
                "cannot create sprite: the name '\(name)' is taken; choose another or destroy it first")
        }
    }

    func unreserve(_ name: SpriteName) { reserved.remove(name) }

    /// Machines whose names begin with `prefix`, after `after`, in name order, and whether there are more.
    func page(prefix: String, after: String?, limit: Int) -> (machines: [Machine], next: String?) {
        let names = machines.keys
            .filter { $0.rawValue.hasPrefix(prefix) && $0.rawValue > after ?? "" }
            .sorted { $0.rawValue < $1.rawValue }
        let taken = names.prefix(limit)
        return (taken.compactMap { machines[$0] }, names.count > taken.count ? taken.last?.rawValue : nil)
    }

    /// Creates a sprite from any source; the sprite runs when it returns.
    ///
    /// - Parameters:
    ///   - policies: As their JSON; that for the network holds from the first packet on.
    ///   - around: Runs the copying of the disk, under whatever must hold while it is copied.
    ///   - prepare: Runs with the disk made and nothing running on it.
    ///   - settle: Runs in the started sprite, before its services do.
    func make(
        _ sprite: Sprite, from source: DiskSource, policies: [PolicyKind: String] = [:],
        around: @escaping @Sendable (@Sendable () async throws -> Void) async throws -> Void = { try await $0() },
        prepare: @escaping @Sendable () async throws -> Void = {},
        settle: @escaping @Sendable () async -> Void = {}
    ) async throws -> Machine {
        let start = ContinuousClock.now
        try await drivers.requireSpace("create sprite '\(sprite.name)'")
        try reserve(sprite.name)
        defer { unreserve(sprite.name) }
        try await drivers.awake.admit(sprite.id, "create sprite '\(sprite.name)'") { await self.stopLongestFrozen() }
        var isMade = false
        defer { if !isMade { drivers.awake.note(sprite.id, isAwake: false) } }
        let intent = Intent.create(sprite, source: source)
        let drivers = drivers
        // Finished or undone as a whole even if the client hangs up meanwhile; awaited here.
        let machine = try await Task {
            try await withRollback { undo in
                try await drivers.journal.span("registry.begin", sprite: sprite.id) {
                    try await drivers.registry.begin(intent)
                }
                FaultPoint.createBegun.reached()
                await undo.onFailure {
                    do {
                        try await drivers.storage.deleteDisk(sprite.id)
                        try await drivers.registry.abandon(intent)
                    } catch {
                        // The intent stays, and the next start of the daemon cleans up.
                        drivers.logger.error("failed creation not cleaned up", metadata: ["error": "\(error)"])
                    }
                }
                for (kind, text) in policies { try await drivers.registry.setPolicy(sprite.id, kind, text) }
                FaultPoint.createPoliciesKept.reached()
                try await around {
                    try await drivers.journal.span("storage.create", sprite: sprite.id) {
                        try await drivers.storage.createDisk(
                            sprite.id, from: source, limit: sprite.limits.diskBytes)
                    }
                }
                FaultPoint.createDiskMade.reached()
                try await prepare()
                FaultPoint.createIdentityRenewed.reached()
                let sandbox = try await boot(sprite, drivers)
                await settle()
                FaultPoint.createBooted.reached()
                await undo.onFailure {
                    await drivers.inside.stopping(sprite.id)
                    try? await drivers.sandboxes.destroy(sprite.id)
                    await drivers.sessions.disconnect(sprite.id)
                    await drivers.network.release(address: sandbox.address)
                }
                var sprite = sprite
                sprite.lastRunningAt = .now()
                let initial = Checkpoint(
                    sprite: sprite.id, id: .initial, createdAt: sprite.createdAt,
                    base: source == .empty ? nil : sprite.base)
                try await drivers.journal.span("registry.complete", sprite: sprite.id) {
                    try await drivers.registry.complete(intent, .written(sprite, initial))
                }
                FaultPoint.createCompleted.reached()
                let machine = Machine(
                    sprite, checkpoints: [initial], initSystem: sandbox.initSystem, drivers: drivers
                ) { await self.stopLongestFrozen() }
                await machine.adopt(sandbox)
                if let text = policies[.checkpoints] { await machine.setPolicy(try CheckpointPolicy(text: text)) }
                return machine
            }
        }.value
        machines[sprite.name] = machine
        isMade = true
        machine.note(
            "sprite.created", "created from base \(sprite.base)",
            fields: [("base", .text(sprite.base.rawValue)), ("duration_ms", .milliseconds(since: start))])
        return machine
    }
}
