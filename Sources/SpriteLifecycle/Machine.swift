// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

/// One sprite: its rows as last written, whether it runs, and the turns of its life events.
actor Machine {
    /// What is alive.
    enum Power: Sendable {
        case cold
        case running(Sandbox)
        /// Held still with its memory, since nobody used it.
        case frozen(Sandbox)
        /// Its rows and disk are gone or going; only an error can be answered.
        case destroyed
    }

    let id: SpriteID
    let drivers: Drivers
    let turns = TurnQueue()
    private(set) var sprite: Sprite
    private(set) var checkpoints: [Checkpoint]
    private(set) var power = Power.cold { didSet { noteAwake() } }
    private(set) var isRestoring = false { didSet { noteAwake() } }
    /// When it was frozen last, since the daemon began.
    private(set) var lastWarmingAt: Timestamp?
    /// Stops the frozen sprite that nobody has used for the longest time; false if there is none.
    private let makeRoom: @Sendable () async -> Bool
    /// By name; those that have expired go when somebody looks.
    var tasks: [String: SpriteTask] = [:]
    /// A try is under way: another would roll back what it keeps.
    private var isAttempting = false
    var policy = CheckpointPolicy()
    /// The command that was started last, for the label of the next checkpoint by policy.
    var lastCommand: String?
    var lastPolicyCheckpoint = ContinuousClock.now
    /// When checkpoints by policy were given up last, since the pool was nearly full.
    var lastRoomMade: ContinuousClock.Instant?
    private var uses = 0
    private(set) var lastUse = ContinuousClock.now
    /// Why it does not run, if it does not.
    private var stopReason = "not used since the daemon started"
    /// A command kept it from falling asleep when that was looked at last.
    private var isHeldByCommand = false
    private var isFallingAsleep = false
    /// Checkpoints shown inside now, oldest first.
    private var shelf: [CheckpointID] = []
    private var isShelfScheduled = false

    /// What its base says; a sandbox that runs may have begun with another.
    private(set) var initSystem: InitSystem

    init(
        _ sprite: Sprite, checkpoints: [Checkpoint], initSystem: InitSystem = .sprite, drivers: Drivers,
        makeRoom: @escaping @Sendable () async -> Bool
    ) {
        self.makeRoom = makeRoom
        self.initSystem = initSystem
        id = sprite.id
        self.sprite = sprite
        self.checkpoints = checkpoints
        self.drivers = drivers
        drivers.journal.describe(sprite.id, name: sprite.name, source: sprite.source)
    }

    /// Records something in the sprite's life.
    nonisolated func note(
        _ event: String, kind: RecordKind = .system, level: RecordLevel = .info, _ text: String,
        fields: [(name: String, value: RecordValue)] = []
    ) {
        drivers.journal.record(JournalRecord(event, kind: kind, level: level, sprite: id, text, fields: fields))
    }

    /// What was hit and is recorded.
    var limitHits = LimitHits()

    var logger: Logger {
        var logger = drivers.logger
        logger[metadataKey: "sprite.id"] = "\(id)"
        logger[metadataKey: "sprite.name"] = "\(sprite.name)"
        return logger
    }

    var status: SpriteStatus {
        switch power {
        case .running: .running
        case .frozen: .warm
        case .cold, .destroyed: .cold
        }
    }

    var view: SpriteView {
        let reason =
            switch power {
            case .running where isRestoring: "being restored"
            case .running where uses > 0: "in use"
            case .running: isHeldByCommand ? "a command is in use" : "used lately"
            case .frozen: "unused"
            case .cold, .destroyed: isRestoring ? "being restored" : stopReason
            }
        return SpriteView(
            sprite: sprite, status: status, initSystem: sandbox?.initSystem ?? initSystem, reason: reason,
            lastWarmingAt: lastWarmingAt)
    }

    /// One that is restored keeps its seat while it is stopped.
    private func noteAwake() { drivers.awake.note(id, isAwake: sandbox != nil || isRestoring) }

    var sandbox: Sandbox? {
        switch power {
        case .running(let sandbox), .frozen(let sandbox): sandbox
        case .cold, .destroyed: nil
        }
    }

    var isFrozen: Bool { if case .frozen = power { true } else { false } }

    func checkExists() throws {
        if case .destroyed = power { throw noSuchSprite(sprite.name) }
    }

    // MARK: Rows

    func setSprite(_ sprite: Sprite) {
        self.sprite = sprite
        drivers.journal.describe(sprite.id, name: sprite.name, source: sprite.source)
    }
    /// Ready for commands without a turn: it runs and no restore is about to stop it.
    var ready: Sandbox? { if case .running(let sandbox) = power, !isRestoring { sandbox } else { nil } }

    /// False if a restore is under way already; otherwise it is from now on.
    func claimRestore() -> Bool {
        guard !isRestoring else { return false }
        isRestoring = true
        return true
    }

    func endRestore() { isRestoring = false }

    /// False if a try is under way already; otherwise it is from now on.
    func claimAttempt() -> Bool {
        guard !isAttempting else { return false }
        isAttempting = true
        return true
    }

    func endAttempt() { isAttempting = false }
    func setPolicy(_ policy: CheckpointPolicy) { self.policy = policy }
    func noteCommand(_ text: String) { lastCommand = text }

    func setDestroyed() { power = .destroyed }

    func record(_ checkpoint: Checkpoint) { checkpoints.append(checkpoint) }
    func forget(_ id: CheckpointID) { checkpoints.removeAll { $0.id == id } }
    func replace(_ checkpoint: Checkpoint) {
        checkpoints = checkpoints.map { $0.id == checkpoint.id ? checkpoint : $0 }
    }

    func checkpoint(_ id: CheckpointID) throws -> Checkpoint {
        guard let found = checkpoints.first(where: { $0.id == id }) else {
            throw SpriteError(.notFound, "sprite '\(sprite.name)' has no checkpoint \(id)")
        }
        return found
    }

    // MARK: Power

    /// Lets the sandbox go on, or starts one if there is none; the caller holds the turn.
    func start() async throws -> Sandbox {
        try checkExists()
        switch power {
        case .running(let sandbox):
            return sandbox
        case .frozen(let sandbox):
            let clock = ContinuousClock.now
            try await drivers.journal.span("sandbox.thaw", sprite: id) { try await drivers.sandboxes.thaw(id) }
            power = .running(sandbox)
            touch()
            note("sprite.woken", "woken from sleep", fields: [("duration_ms", .milliseconds(since: clock))])
            return sandbox
        case .cold, .destroyed:
            let clock = ContinuousClock.now
            let sandbox: Sandbox
            do {
                try await drivers.awake.admit(id, "start sprite '\(sprite.name)'", makeRoom: makeRoom)
                sandbox = try await boot(sprite, drivers)
            } catch {
                noteAwake()
                note("sprite.start_failed", level: .error, "not started: \(SpriteError.sentence(error))")
                throw error
            }
            initSystem = sandbox.initSystem
            adopt(sandbox)
            note("sprite.started", "started", fields: [("duration_ms", .milliseconds(since: clock))])
            sprite.lastRunningAt = .now()
            return sandbox
        }
    }

    // MARK: Use

    func touch() { lastUse = .now }

    func beginUse() {
        uses += 1
        touch()
    }

    func endUse() {
        uses -= 1
        touch()
    }

    /// How long nobody has used it; nil while somebody does.
    var unused: Duration? { uses > 0 || isHeldByTask() ? nil : ContinuousClock.now - lastUse }

    /// Puts it to sleep if its time has come. Called every second or so, so it decides cheaply.
    func sleepIfUnused() async {
        guard let sandbox, let unused, !isRestoring else { return }
        let freeze = sprite.idle.freezeAfterSeconds ?? Limits.freezeAfterSecondsDefault
        let stop = sprite.idle.stopAfterSeconds ?? Limits.stopAfterSecondsDefault
        let shouldStop = stop > 0 && unused >= .seconds(stop)
        let shouldFreeze = freeze > 0 && unused >= .seconds(freeze) && !isFrozen
        guard shouldStop || shouldFreeze, !isFallingAsleep else { return }
        // Frozen, nothing can be printed; running, output and attached clients count as use.
        if !isFrozen {
            isHeldByCommand = await isUsedBySessions()
            if isHeldByCommand { return touch() }
        }
        isFallingAsleep = true
        // Nobody waits for it: processes may take their time to end, and other sprites are looked at meanwhile.
        Task {
            _ = try? await turns.withTurn {
                try await self.sleep(sandbox, unusedFor: unused, shouldStop: shouldStop)
            }
            isFallingAsleep = false
        }
    }

    /// Looks and acts in one step, so that nobody can begin to use what then is stopped; the caller holds the turn.
    private func sleep(_ sandbox: Sandbox, unusedFor duration: Duration, shouldStop: Bool) async throws {
        // Somebody may have come while this waited for its turn.
        guard self.sandbox == sandbox, let unused, unused >= duration else { return }
        guard shouldStop else { return try await freeze() }
        try await stop(inOrder: true, because: "unused")
        note("sprite.stopped", "stopped, unused", fields: [("reason", "idle")])
    }

    /// How long it has been unused, if it is frozen and its owner did not say that it must never be stopped.
    var stoppable: Duration? { isFrozen && !isRestoring && sprite.idle.stopAfterSeconds != 0 ? unused : nil }

    /// Stops it if it still is frozen; false if it could not be stopped.
    func giveWay(because reason: GivingWay) async -> Bool {
        do {
            try await turns.withTurn { try await self.stopIfStoppable(because: reason) }
            return true
        } catch {
            logger.warning("sprite not stopped", metadata: ["error": "\(error)"])
            return false
        }
    }

    private func stopIfStoppable(because reason: GivingWay) async throws {
        guard stoppable != nil else { return }
        try await stop(inOrder: true, because: reason.text)
        note("sprite.stopped", "stopped, \(reason.text)", fields: [("reason", .text(reason.rawValue))])
    }

    private func isUsedBySessions() async -> Bool {
        let quiet = Timestamp.now().nanoseconds - 1_000_000_000 * Int64(Limits.freezeAfterSecondsDefault)
        return await drivers.sessions.sessions(id).contains {
            $0.attachedClients > 0 || ($0.lastActivityAt?.nanoseconds ?? 0) > quiet
        }
    }

    private func freeze() async throws {
        guard case .running(let sandbox) = power else { return }
        do {
            try await drivers.sandboxes.freeze(id)
        } catch {
            logger.debug("sprite not frozen", metadata: ["error": "\(error)"])
            return touch()
        }
        // A command may have come without a turn while the freezing was under way.
        guard case .running(sandbox) = power, unused.map({ $0 > .seconds(1) }) == true else {
            try await drivers.sandboxes.thaw(id)
            return
        }
        power = .frozen(sandbox)
        lastWarmingAt = .now()
        logger.debug("sprite frozen, unused")
        note("sprite.frozen", "put to sleep, unused")
    }

    /// Takes over a sandbox that runs and watches for its end.
    func adopt(_ sandbox: Sandbox) {
        power = .running(sandbox)
        limitHits = drivers.sandboxes.limitHits(sandbox.id)
        touch()
        shelf = []
        // Ends when the sandbox does, whoever ends it; nobody waits for it but this machine.
        Task {
            await drivers.sandboxes.waitForEnd(sandbox)
            await self.ended(sandbox)
        }
        // Without whoever keeps the sessions nothing can be asked of it, even if its PID 1 runs on.
        Task {
            await drivers.sessions.waitForLoss(id)
            await self.ended(sandbox)
        }
        if sandbox.initSystem.isOfBase { followInit(sandbox) }
        // Behind the answer: nobody who creates or wakes a sprite waits for its services.
        Task { await drivers.services.started(id) }
        // Behind the answer: mounting five old states takes longer than starting.
        arrangeShelfSoon()
    }

    /// Keeps a network policy and puts it in force; the caller holds the turn.
    ///
    /// Kept first: whatever ends the daemon in between, the next one puts in force what is kept.
    func setNetworkPolicy(_ text: String?) async throws {
        try checkExists()
        try await drivers.registry.setPolicy(id, .network, text)
        guard let sandbox else { return }
        try await drivers.network.apply(policy: text, to: sandbox.address, of: id)
        try await drivers.sandboxes.showPolicy(id, text ?? #"{"rules":[]}"#)
    }

    /// Ends the sandbox if one runs; the caller holds the turn.
    ///
    /// - Parameter inOrder: What runs is asked to end first, and given some time: an init system of the base to stop its
    ///   services, otherwise every process.
    func stop(inOrder: Bool = false, because reason: String = "stopped") async throws {
        guard let sandbox else { return }
        let wasFrozen = isFrozen
        power = .cold
        stopReason = reason
        shelf = []
        if inOrder {
            logger.notice("sprite stopped", metadata: ["reason": "\(reason)"])
            await drivers.services.stopping(sandbox.id)
            if sandbox.initSystem.isOfBase {
                await shutDown(sandbox, wasFrozen: wasFrozen)
            } else {
                await drivers.sandboxes.terminate(sandbox, grace: Limits.stopGrace)
            }
        }
        try await takeDown(sandbox)
    }

    private func shutDown(_ sandbox: Sandbox, wasFrozen: Bool) async {
        if wasFrozen { try? await drivers.sandboxes.thaw(sandbox.id) }
        await drivers.sessions.shutDown(sandbox.id)
        if await !drivers.sandboxes.waitForEnd(sandbox, within: Limits.orderlyStopTimeout) {
            logger.warning("sprite killed: its init system did not end in time")
        }
    }

    private func takeDown(_ sandbox: Sandbox) async throws {
        await drivers.services.stopping(sandbox.id)
        await drivers.inside.stopping(sandbox.id)
        try await drivers.journal.span("sandbox.destroy", sprite: id) {
            try await drivers.sandboxes.destroy(sandbox.id)
        }
        await drivers.sessions.disconnect(sandbox.id)
        await drivers.network.release(address: sandbox.address)
    }

    private func ended(_ sandbox: Sandbox) async {
        guard self.sandbox == sandbox else { return }
        _ = try? await turns.withTurn {
            // Another event may have stopped or replaced it while this one waited for its turn.
            guard await self.sandbox == sandbox else { return }
            await self.logger.warning("sprite ended by itself")
            await self.recordLimitHits()
            self.note("sprite.crashed", level: .error, "ended by itself: its first process is gone")
            try await self.stop(because: "ended by itself")
        }
    }

    // MARK: Checkpoints visible inside

    /// Soon makes `/.sprite/checkpoints` show the newest five.
    ///
    /// Mounting costs more than a checkpoint, so a quick series of them is shown once, after its end.
    func arrangeShelfSoon() {
        guard !isShelfScheduled else { return }
        isShelfScheduled = true
        // Nobody waits for it; it ends within milliseconds after the pause.
        Task {
            try? await Task.sleep(for: .milliseconds(50))
            await self.arrangeShelf()
        }
    }

    /// What fails is only logged, since nothing depends on it.
    private func arrangeShelf() async {
        isShelfScheduled = false
        guard let sandbox else { return }
        let wanted = checkpoints.filter { !$0.id.isAutomatic && $0.id != .initial }
            .suffix(Limits.visibleCheckpointsMax).map(\.id)
        for old in shelf where !wanted.contains(old) {
            shelf.removeAll { $0 == old }
            do {
                try await drivers.sandboxes.hideCheckpoint(sandbox, name: old.rawValue)
            } catch {
                logger.debug("checkpoint not hidden", metadata: ["error": "\(error)"])
            }
        }
        for new in wanted where !shelf.contains(new) {
            shelf.append(new)
            do {
                let base = try checkpoint(new).base ?? sprite.base
                let mount = try await drivers.storage.openCheckpointRoot(
                    id, base: base, layer: try await mountedLayer(of: sprite, drivers), new)
                defer { drivers.closeSocket(mount) }
                try await drivers.sandboxes.showCheckpoint(sandbox, mount: mount, name: new.rawValue)
            } catch {
                logger.debug("checkpoint not shown", metadata: ["error": "\(error)"])
            }
        }
    }

    /// Takes one state out of the sprite's view before its snapshot is deleted; a mount would keep it alive.
    func takeOffShelf(_ checkpoint: CheckpointID) async {
        guard let sandbox, shelf.contains(checkpoint) else { return }
        shelf.removeAll { $0 == checkpoint }
        try? await drivers.sandboxes.hideCheckpoint(sandbox, name: checkpoint.rawValue)
    }
}

/// Brings a sprite's sandbox up on the disk it has; leaves nothing behind if a step fails.
func boot(_ sprite: Sprite, _ drivers: Drivers) async throws -> Sandbox {
    try await withRollback { undo in
        let journal = drivers.journal
        async let acquired = journal.span("network.acquire", sprite: sprite.id) { try await drivers.network.acquire() }
        async let restricted = drivers.registry.policy(sprite.id, .network)
        let root: String
        let initSystem: InitSystem
        do {
            initSystem = try await drivers.initSystem(sprite.base)
            let layer = try await layer(of: sprite, drivers)
            root = try await journal.span("storage.mount", sprite: sprite.id) {
                try await drivers.storage.mountRoot(sprite.id, base: sprite.base, layer: layer)
            }
        } catch {
            if let slot = try? await acquired {
                await drivers.network.handedOver(slot)
                await drivers.network.release(address: slot.address)
            }
            throw error
        }
        FaultPoint.bootRootMounted.reached()
        await undo.onFailure { await drivers.storage.unmountRoot(sprite.id) }
        let slot = try await acquired
        FaultPoint.bootNetworkAcquired.reached()
        await undo.onFailure { await drivers.network.release(address: slot.address) }
        let sandbox: Sandbox
        let policy: String?
        let brokerage: Brokerage?
        do {
            policy = try await restricted
            // Before anything inside can send a packet.
            try await drivers.network.apply(policy: policy, to: slot.address, of: sprite.id)
            try await drivers.network.limit(slot.address, sprite.limits)
            brokerage = try await drivers.broker(sprite.id, at: slot.address)
            let socket = try drivers.sessions.listen(sprite.id)
            defer { drivers.closeSocket(socket) }
            await undo.onFailure { try? await drivers.sandboxes.destroy(sprite.id) }
            sandbox = try await journal.span("sandbox.start", sprite: sprite.id) {
                try await drivers.sandboxes.start(
                    SandboxSpecification(
                        id: sprite.id, hostname: sprite.hostname ?? sprite.name.rawValue, root: root, slot: slot,
                        limits: sprite.limits, ociRuntime: sprite.ociRuntime, agentSocket: socket,
                        initSystem: initSystem))
            }
        } catch {
            await drivers.network.handedOver(slot)
            throw error
        }
        await drivers.network.handedOver(slot)
        FaultPoint.bootStarted.reached()
        await undo.onFailure { await drivers.inside.stopping(sprite.id) }
        await drivers.inside.started(sprite.id, sprite.name)
        if let policy { try await drivers.sandboxes.showPolicy(sprite.id, policy) }
        if let brokerage { try await drivers.sandboxes.showAuthority(sprite.id, brokerage.authority.certificate) }
        await undo.onFailure { await drivers.sessions.disconnect(sprite.id) }
        try await journal.span("agent.connect", sprite: sprite.id) {
            try await drivers.sessions.connect(
                sprite.id,
                setup: AgentSetup(
                    hostname: sprite.hostname ?? sprite.name.rawValue, nameServers: drivers.network.nameServers,
                    environment: sprite.environment(brokerage)))
        }
        FaultPoint.bootConnected.reached()
        await drivers.storage.unmountRoot(sprite.id)
        return sandbox
    }
}
