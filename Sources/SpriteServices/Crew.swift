// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import NIOCore
import SpriteDomain

/// The services of one sprite: carries out what its ``ServicePlan`` decides.
actor Crew {
    typealias Follower = AsyncStream<ServiceEvent>.Continuation

    let sprite: SpriteID
    private let parts: SupervisorParts
    private var plan = ServicePlan()
    private var sessions: [String: any ExecSession] = [:]
    private var logs: [String: ServiceLog] = [:]
    private var followers: [String: [Int: Follower]] = [:]
    private var nextFollower = 0
    /// False before the first start and while the sprite is stopping: nothing is started then.
    private var isUp = false
    /// Whether the plan is that of the disk.
    private var isLoaded = false
    private var loadFailure: (any Error)?
    /// Counts boots, so that what belongs to an earlier one is ignored.
    private var boots = 0

    init(_ sprite: SpriteID, _ parts: SupervisorParts) {
        self.sprite = sprite
        self.parts = parts
    }

    // MARK: Machine

    func started() async {
        boots += 1
        let boot = boots
        isLoaded = false
        loadFailure = nil
        sessions = [:]
        isUp = true
        do {
            let definitions = try await parts.store.load(sprite)
            guard boot == boots, isUp else { return }
            // Those of before a restart of the daemon run on; they are taken over, not started twice.
            let found = await parts.sessions.taggedSessions(sprite)
            guard boot == boots, isUp else { return }
            takeOver(found, definitions)
            isLoaded = true
        } catch {
            if boot == boots { loadFailure = error }
            parts.logger.error("services not started", metadata: ["sprite.id": "\(sprite)", "error": "\(error)"])
        }
    }

    /// Of processes that run, one for each service is what its definition wants; others were being ended when the daemon was.
    private func takeOver(_ found: [any ExecSession], _ definitions: [ServiceDefinition]) {
        let wanted = Set(definitions.filter { !$0.isStopped }.map(ServiceTag.init))
        let known = Set(definitions.map(\.name))
        var (running, leaving): ([String: any ExecSession], [String: any ExecSession]) = ([:], [:])
        for session in found {
            guard let tag = ServiceTag(session.info.tag) else { continue }
            if wanted.contains(tag), running[tag.name] == nil {
                running[tag.name] = session
            } else if known.contains(tag.name), leaving[tag.name] == nil {
                leaving[tag.name] = session
            } else {
                end(session, after: .seconds(10))
            }
        }
        plan = ServicePlan()
        let effects = plan.boot(
            definitions, running: running.mapValues(\.info.createdAt), leaving: Set(leaving.keys))
        for (name, session) in leaving {
            if running[name] == nil { follow(name, session) } else { end(session, after: .seconds(10)) }
        }
        for (name, session) in running { follow(name, session) }
        carryOut(effects)
    }

    /// Returns once the definitions of the running machine are known.
    ///
    /// A machine that has just woken loads them behind the answer. Whatever was defined or deleted meanwhile would be
    /// forgotten with the plan that loading replaces, and would have written the disk's definitions without the others.
    func waitUntilLoaded() async throws {
        let deadline = ContinuousClock.now + Limits.agentReplyTimeout
        while !isLoaded {
            if let loadFailure {
                throw SpriteError(
                    .internalError, "cannot use services: their definitions cannot be read", cause: loadFailure)
            }
            guard ContinuousClock.now < deadline else {
                throw SpriteError(.unavailable, "cannot use services: the sprite has just stopped; try again")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    func stopping() {
        isUp = false
        isLoaded = false
        boots += 1
        sessions = [:]
        plan = ServicePlan()
    }

    // MARK: Requests

    var views: [ServiceView] { plan.entries.values.sorted { $0.definition.name < $1.definition.name }.map(view) }

    func view(_ name: String) throws -> ServiceView { view(try entry(name)) }

    var httpPort: Int? { plan.entries.values.compactMap(\.definition.httpPort).first }

    func define(_ definition: ServiceDefinition) async throws -> AsyncStream<ServiceEvent> {
        guard plan.entries[definition.name] != nil || plan.entries.count < servicesMax else {
            throw SpriteError(.limitReached, "cannot define service: the sprite has \(servicesMax), the limit")
        }
        var next = plan
        var definition = definition
        definition.run = newRun()
        let effects = try next.define(definition)
        return try await commit(next, effects, following: definition.name)
    }

    func start(_ name: String) async throws -> AsyncStream<ServiceEvent> {
        _ = try entry(name)
        var next = plan
        let effects = next.start(name)
        return try await commit(next, effects, following: name)
    }

    func restart(_ name: String) async throws -> AsyncStream<ServiceEvent> {
        _ = try entry(name)
        var next = plan
        let effects = next.restart(name)
        if !effects.isEmpty { next.renew(name, run: newRun()) }
        return try await commit(next, effects, following: name)
    }

    func stop(_ name: String, timeout: Duration) async throws -> AsyncStream<ServiceEvent> {
        guard try entry(name).phase != .stopped else {
            throw SpriteError(.conflict, "cannot stop service '\(name)': it does not run")
        }
        var next = plan
        let effects = next.stop(name, timeout: timeout)
        let stream = try await commit(next, effects, following: name, first: .stopping)
        if effects.isEmpty { publish(name, .stopped(nil)) }
        return stream
    }

    func delete(_ name: String) async throws {
        let old = try entry(name)
        if let other = plan.entries.values.first(where: { $0.definition.needs.contains(name) }) {
            throw SpriteError(
                .conflict, "cannot delete service '\(name)': service '\(other.definition.name)' needs it")
        }
        var next = plan
        next.remove(name)
        try await save(next)
        plan = next
        if old.phase != .stopped { kill(name, after: .seconds(10)) }
        logs[name] = nil
        for follower in followers.removeValue(forKey: name)?.values ?? [:].values { follower.finish() }
    }

    func signal(_ name: String, _ number: Int32) throws {
        _ = try entry(name)
        guard let session = sessions[name] else {
            throw SpriteError(.conflict, "cannot signal service '\(name)': it does not run")
        }
        session.signal(number)
    }

    func logs(_ name: String, lines: Int) throws -> AsyncStream<ServiceEvent> {
        _ = try entry(name)
        return subscribe(name, kept: logs[name]?.last(lines) ?? [])
    }

    // MARK: Work

    private func entry(_ name: String) throws -> ServicePlan.Entry {
        guard let entry = plan.entries[name] else {
            throw SpriteError(.notFound, "the sprite has no service '\(name)'")
        }
        return entry
    }

    /// Writes the definitions first: what was acknowledged is there after a crash.
    private func commit(
        _ next: ServicePlan, _ effects: [ServicePlan.Effect], following name: String,
        first: ServiceEvent.Kind? = nil
    ) async throws -> AsyncStream<ServiceEvent> {
        let before = plan
        plan = next
        let stream = subscribe(name, kept: [])
        do {
            try await save(next)
        } catch {
            plan = before
            throw error
        }
        if let first { publish(name, first) }
        carryOut(effects)
        return stream
    }

    private func save(_ plan: ServicePlan) async throws {
        try await parts.store.save(sprite, plan.entries.values.map(\.definition).sorted { $0.name < $1.name })
    }

    private func subscribe(_ name: String, kept: [ServiceEvent]) -> AsyncStream<ServiceEvent> {
        nextFollower += 1
        let id = nextFollower
        // A reader that does not keep up loses the oldest lines; the log keeps them.
        return AsyncStream(bufferingPolicy: .bufferingNewest(4096)) { continuation in
            for event in kept { continuation.yield(event) }
            followers[name, default: [:]][id] = continuation
            continuation.onTermination = { _ in Task { await self.unsubscribe(name, id) } }
        }
    }

    private func unsubscribe(_ name: String, _ id: Int) { followers[name]?[id] = nil }

    private func publish(_ name: String, _ kind: ServiceEvent.Kind) {
        let event = ServiceEvent(kind)
        logs[name, default: ServiceLog(file: parts.logFile(sprite, name))].append(event)
        for follower in (followers[name] ?? [:]).values { follower.yield(event) }
    }

    private func carryOut(_ effects: [ServicePlan.Effect]) {
        guard isUp else { return }
        let boot = boots
        for effect in effects {
            switch effect {
            case .run(let name):
                // Ends with the service's process or with the sprite.
                Task { await self.run(name, boot) }
            case .terminate(let name, let timeout):
                kill(name, after: timeout)
            case .wake(let time):
                Task {
                    try? await Task.sleep(for: .nanoseconds(max(0, time.nanoseconds - Timestamp.now().nanoseconds)))
                    self.timePassed(boot)
                }
            }
        }
    }

    private func timePassed(_ boot: Int) {
        guard boot == boots, isUp else { return }
        carryOut(plan.timePassed(now: .now()))
    }

    private func kill(_ name: String, after timeout: Duration) {
        if let session = sessions[name] { end(session, after: timeout) }
    }

    /// Also where its service is gone meanwhile, or has another process.
    private func end(_ session: any ExecSession, after timeout: Duration) {
        let boot = boots
        session.signal(SIGTERM)
        FaultPoint.serviceTerminated.reached()
        Task {
            try? await Task.sleep(for: timeout)
            // Of a session that has ended nobody has to be told.
            if boot == self.boots { session.signal(SIGKILL) }
        }
    }

    /// Never the same again, also for a service that is deleted and defined once more.
    private func newRun() -> Int { Int(Timestamp.now().nanoseconds) }

    private func run(_ name: String, _ boot: Int) async {
        guard boot == boots, isUp, let definition = plan.entries[name]?.definition else { return }
        var request = ExecRequest(
            arguments: [definition.command] + definition.arguments,
            environment: definition.environment.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) },
            directory: definition.directory, maxRunAfterDisconnect: nil)
        request.tag = ServiceTag(definition).text
        do {
            let session = try await parts.sessions.exec(sprite, request)
            FaultPoint.serviceStarted.reached()
            guard boot == boots, isUp else { return }
            guard plan.entries[name]?.phase == .starting else {
                // Stopped or deleted while it was being started.
                session.signal(SIGKILL)
                return follow(name, session)
            }
            publish(name, .started)
            follow(name, session)
            carryOut(plan.didStart(name, now: .now()))
        } catch {
            guard boot == boots else { return }
            let message = (error as? SpriteError)?.message ?? "\(error)"
            publish(name, .failed(message))
            carryOut(plan.didEnd(name, error: message, now: .now()))
        }
    }

    private func follow(_ name: String, _ session: any ExecSession) {
        sessions[name] = session
        let boot = boots
        let reader = session.attach()
        Task {
            while let event = try? await reader.next() { self.happened(event, name, session, boot) }
            reader.detach()
        }
    }

    private func happened(_ event: SessionEvent, _ name: String, _ session: any ExecSession, _ boot: Int) {
        guard boot == boots, sessions[name] === session else { return }
        switch event {
        case .output(let stream, let bytes):
            publish(name, .output(stream, String(buffer: bytes)))
        case .exited(let status):
            sessions[name] = nil
            let wasStopping = if case .stopping = plan.entries[name]?.phase { true } else { false }
            publish(name, wasStopping ? .stopped(status.code) : .exited(status.code))
            let error = wasStopping ? nil : "ended with exit code \(status.code)"
            carryOut(plan.didEnd(name, error: error, now: .now()))
        }
    }

    private func view(_ entry: ServicePlan.Entry) -> ServiceView {
        var view = ServiceView(
            definition: entry.definition, status: .stopped, restartCount: entry.restarts, error: entry.error)
        switch entry.phase {
        case .stopped: break
        case .waiting, .starting: view.status = .starting
        case .running(let since):
            view.status = .running
            view.startedAt = since
        case .stopping: view.status = .stopping
        case .backingOff(let until):
            view.status = .failed
            view.nextRestartAt = until
        }
        return view
    }
}

/// Each is a process; a sprite that runs more has a supervisor of its own.
private let servicesMax = 200
