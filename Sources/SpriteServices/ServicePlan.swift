// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Decides which services of one sprite run when; does nothing itself.
///
/// Events go in, effects come out, time is an argument: tests need neither clock nor process.
struct ServicePlan: Sendable {
    /// What must be done, in this order.
    enum Effect: Sendable, Hashable {
        case run(String)
        /// SIGTERM now, SIGKILL after the duration.
        case terminate(String, Duration)
        /// Look again at this time, with ``ServicePlan/timePassed(now:)``.
        case wake(at: Timestamp)
    }

    enum Phase: Sendable, Hashable {
        case stopped
        /// Should run; services it needs do not yet.
        case waiting
        /// The command was asked for and has not been reported running.
        case starting
        case running(since: Timestamp)
        /// `thenStart`: it is to be started again once it has ended.
        case stopping(thenStart: Bool)
        /// It crashed and is started again at the time.
        case backingOff(until: Timestamp)
    }

    struct Entry: Sendable, Hashable {
        var definition: ServiceDefinition
        var phase = Phase.stopped
        var restarts = 0
        /// Crashes in a row; a run of `steadyNanoseconds` forgets them.
        var crashes = 0
        var startedAt: Timestamp?
        var error: String?
    }

    private(set) var entries: [String: Entry] = [:]

    // MARK: What users do

    /// Makes or replaces a service; it is started, again if it ran.
    mutating func define(_ definition: ServiceDefinition) throws -> [Effect] {
        try check(definition)
        guard var entry = entries[definition.name] else {
            entries[definition.name] = Entry(definition: definition)
            return start(definition.name)
        }
        entry.definition = definition
        entry.restarts = 0
        entries[definition.name] = entry
        return restart(definition.name)
    }

    mutating func start(_ name: String) -> [Effect] {
        guard var entry = entries[name] else { return [] }
        entry.definition.isStopped = false
        switch entry.phase {
        case .stopped, .backingOff:
            entry.phase = .waiting
            entry.crashes = 0
            entry.error = nil
        case .stopping:
            entry.phase = .stopping(thenStart: true)
        case .waiting, .starting, .running:
            break
        }
        entries[name] = entry
        // What it needs is started with it, whatever the user said of that before.
        return entry.definition.needs.flatMap { isIdle($0) ? start($0) : [] } + advance()
    }

    mutating func restart(_ name: String) -> [Effect] {
        guard var entry = entries[name] else { return [] }
        switch entry.phase {
        case .running, .starting:
            entry.phase = .stopping(thenStart: true)
            entry.definition.isStopped = false
            entries[name] = entry
            return [.terminate(name, .seconds(10))]
        case .stopped, .waiting, .stopping, .backingOff:
            return start(name)
        }
    }

    mutating func stop(_ name: String, timeout: Duration) -> [Effect] {
        guard var entry = entries[name] else { return [] }
        entry.definition.isStopped = true
        defer { entries[name] = entry }
        switch entry.phase {
        case .running, .starting, .stopping:
            entry.phase = .stopping(thenStart: false)
            return [.terminate(name, timeout)]
        case .stopped, .waiting, .backingOff:
            entry.phase = .stopped
            return []
        }
    }

    mutating func remove(_ name: String) { entries[name] = nil }

    /// From now on another process is wanted than the one that may run.
    mutating func renew(_ name: String, run: Int) { entries[name]?.definition.run = run }

    // MARK: What happens

    /// The sprite runs with these services; those of `running` since before the daemon's own start.
    ///
    /// - Parameter leaving: Those of which a process runs that is not wanted any more.
    mutating func boot(
        _ definitions: [ServiceDefinition], running: [String: Timestamp] = [:], leaving: Set<String> = []
    ) -> [Effect] {
        entries = [:]
        var effects: [Effect] = []
        for definition in definitions {
            var entry = Entry(definition: definition, phase: definition.isStopped ? .stopped : .waiting)
            if let since = running[definition.name] {
                entry.phase = .running(since: since)
                entry.startedAt = since
            } else if leaving.contains(definition.name) {
                entry.phase = .stopping(thenStart: !definition.isStopped)
                effects.append(.terminate(definition.name, .seconds(10)))
            }
            entries[definition.name] = entry
        }
        return effects + advance()
    }

    mutating func didStart(_ name: String, now: Timestamp) -> [Effect] {
        guard var entry = entries[name], entry.phase == .starting else { return [] }
        entry.phase = .running(since: now)
        entry.startedAt = now
        entries[name] = entry
        return advance()
    }

    /// It ended, or could not be started (`error`).
    mutating func didEnd(_ name: String, error: String? = nil, now: Timestamp) -> [Effect] {
        guard var entry = entries[name] else { return [] }
        entry.error = error
        switch entry.phase {
        case .stopping(let thenStart):
            entry.phase = thenStart ? .waiting : .stopped
            entry.error = nil
            entries[name] = entry
            return advance()
        case .running(let since):
            if now.nanoseconds - since.nanoseconds >= steadyNanoseconds { entry.crashes = 0 }
        case .starting:
            break
        case .stopped, .waiting, .backingOff:
            return []
        }
        entry.crashes += 1
        entry.restarts += 1
        let until = Timestamp(nanoseconds: now.nanoseconds + delay(afterCrashes: entry.crashes))
        entry.phase = .backingOff(until: until)
        entries[name] = entry
        return [.wake(at: until)]
    }

    mutating func timePassed(now: Timestamp) -> [Effect] {
        for (name, entry) in entries {
            if case .backingOff(let until) = entry.phase, until <= now { entries[name]?.phase = .waiting }
        }
        return advance()
    }

    // MARK: Rules

    /// Starts every waiting service whose needs run.
    private mutating func advance() -> [Effect] {
        var effects: [Effect] = []
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) where entry.phase == .waiting {
            guard entry.definition.needs.allSatisfy(isRunning) else { continue }
            entries[name]?.phase = .starting
            effects.append(.run(name))
        }
        return effects
    }

    private func isRunning(_ name: String) -> Bool {
        if case .running = entries[name]?.phase { true } else { false }
    }

    private func isIdle(_ name: String) -> Bool {
        switch entries[name]?.phase {
        case .stopped, .backingOff: true
        default: false
        }
    }

    private func check(_ definition: ServiceDefinition) throws {
        for need in definition.needs where need != definition.name && entries[need] == nil {
            throw SpriteError(
                .invalidRequest, "cannot define service '\(definition.name)': it needs '\(need)', which is not defined")
        }
        if definition.httpPort != nil,
            let other = entries.values.first(where: {
                $0.definition.httpPort != nil && $0.definition.name != definition.name
            })
        {
            throw SpriteError(
                .conflict,
                "cannot define service '\(definition.name)': service '\(other.definition.name)' has the HTTP port already"
            )
        }
        var open = definition.needs
        var seen: Set<String> = []
        while let name = open.popLast() {
            guard name != definition.name else {
                throw SpriteError(.invalidRequest, "cannot define service '\(name)': it needs itself, in a circle")
            }
            if seen.insert(name).inserted { open += entries[name]?.definition.needs ?? [] }
        }
    }
}

/// A service that ran this long is not crashing at its start.
private let steadyNanoseconds: Int64 = 60_000_000_000

/// One second, doubled with each crash in a row, a minute at most.
private func delay(afterCrashes crashes: Int) -> Int64 {
    min(Int64(1) << Int64(min(max(crashes - 1, 0), 6)), 60) * 1_000_000_000
}
