// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import SpriteAPI
import SpriteDomain

/// From the wire to the domain, with every limit checked, and back.
extension APIService {
    func wire(_ view: SpriteView) -> API.Sprite {
        let sprite = view.sprite
        let port = boundPort.withLockedValue { $0 }
        var wire = API.Sprite(
            id: "sprite-\(sprite.id)", name: sprite.name.rawValue, organization: configuration.organization,
            status: view.status.rawValue,
            url: configuration.urlTemplate.replacing("<name>", with: sprite.name.rawValue)
                .replacing("<port>", with: "\(port)"),
            createdAt: sprite.createdAt.text, updatedAt: sprite.updatedAt.text)
        wire.statusReason = view.reason
        wire.configuration = API.Configuration(
            memoryMiB: sprite.limits.memoryMiB, cpus: sprite.limits.cpus, pids: sprite.limits.pids)
        wire.configuration?.diskMiB = sprite.limits.diskMiB
        wire.configuration?.storageGB = sprite.limits.diskMiB.flatMap { $0.isMultiple(of: 1024) ? $0 / 1024 : nil }
        wire.configuration?.bandwidthMbit = sprite.limits.bandwidthMbit
        wire.configuration?.connections = sprite.limits.connections
        wire.configuration?.startsWithHost = sprite.startsWithHost ? true : nil
        wire.configuration?.freezeAfterSeconds = sprite.idle.freezeAfterSeconds
        wire.configuration?.stopAfterSeconds = sprite.idle.stopAfterSeconds
        wire.configuration?.ociRuntime = sprite.ociRuntime
        wire.environment = sprite.environment
        wire.urlSettings = API.URLSettings(auth: sprite.urlAuthentication.rawValue)
        wire.labels = sprite.labels
        wire.base = sprite.base.rawValue
        wire.runtimes = sprite.runtimes.map { "\($0)" }
        wire.initSystem = view.initSystem.rawValue
        wire.version = configuration.version
        wire.isEphemeral = sprite.isEphemeral ? true : nil
        wire.lastRunningAt = sprite.lastRunningAt?.text
        wire.lastWarmingAt = view.lastWarmingAt?.text
        return wire
    }

    func creation(_ body: API.CreateSprite) throws -> SpriteCreation {
        var creation = SpriteCreation(
            name: try SpriteName(body.name),
            base: try body.base.flatMap { $0.isEmpty ? nil : try BaseName($0) },
            limits: try limits(body.configuration, over: ResourceLimits()),
            environment: try checkedEnvironment(body.environment ?? [:]),
            labels: try checkedLabels(body.labels ?? []),
            urlAuthentication: try urlAuthentication(body.urlSettings) ?? .sprite)
        creation.runtimes = try checkedRuntimes(body.runtimes)
        creation.idle = try idle(body.configuration, over: IdlePolicy())
        creation.ociRuntime = body.configuration?.ociRuntime
        creation.startsWithHost = body.configuration?.startsWithHost ?? false
        return creation
    }

    /// Empty means absent: some clients send every field.
    func checkedRuntimes(_ text: String?) throws -> String? {
        guard let text, !text.isEmpty else { return nil }
        if text == "none" { return text }
        return text.contains("@") ? "\(try RuntimesVersion(text))" : try RuntimesVersion.checkedName(text)
    }

    /// The idle times after a change: an absent one stays.
    func idle(_ change: API.Configuration?, over current: IdlePolicy) throws -> IdlePolicy {
        for (name, value) in [
            ("freeze_after_seconds", change?.freezeAfterSeconds), ("stop_after_seconds", change?.stopAfterSeconds),
        ] {
            guard let value, !(0...Limits.idleSecondsMax).contains(value) else { continue }
            throw SpriteError(
                .invalidRequest, "invalid config: \(name) is \(value), use 0 (never) to \(Limits.idleSecondsMax)")
        }
        return IdlePolicy(
            freezeAfterSeconds: change?.freezeAfterSeconds ?? current.freezeAfterSeconds,
            stopAfterSeconds: change?.stopAfterSeconds ?? current.stopAfterSeconds)
    }

    /// The limits after a change: zero takes one away, an absent one stays.
    func limits(_ change: API.Configuration?, over current: ResourceLimits) throws -> ResourceLimits {
        guard let change else { return current }
        var limits = current
        if let memory = change.memoryMiB {
            guard memory == 0 || (Limits.memoryMiBMin...(1 << 24)).contains(memory) else {
                throw SpriteError(
                    .invalidRequest,
                    "invalid config: ram_mb is \(memory), use \(Limits.memoryMiBMin) to \(1 << 24), or 0 for no limit")
            }
            limits.memoryMiB = memory == 0 ? nil : memory
        }
        if let cpus = change.cpus {
            guard cpus == 0 || (0.01...1024).contains(cpus) else {
                throw SpriteError(
                    .invalidRequest, "invalid config: cpus is \(cpus), use 0.01 to 1024, or 0 for no limit")
            }
            limits.cpus = cpus == 0 ? nil : cpus
        }
        if let pids = change.pids {
            guard pids == 0 || (Limits.pidsMin...(1 << 22)).contains(pids) else {
                throw SpriteError(
                    .invalidRequest,
                    "invalid config: pids is \(pids), use \(Limits.pidsMin) to \(1 << 22), or 0 for the default")
            }
            limits.pids = pids == 0 ? nil : pids
        }
        limits.bandwidthMbit = try number(
            change.bandwidthMbit, "bandwidth_mbit", max: Limits.bandwidthMbitMax, over: limits.bandwidthMbit)
        limits.connections = try number(
            change.connections, "connections", max: Limits.outwardConnectionsMax, over: limits.connections)
        if let disk = try diskMiB(change) { limits.diskMiB = disk == 0 ? nil : disk }
        return limits
    }

    private func number(_ value: Int?, _ name: String, max: Int, over current: Int?) throws -> Int? {
        guard let value else { return current }
        guard (0...max).contains(value) else {
            throw SpriteError(
                .invalidRequest, "invalid config: \(name) is \(value), use 1 to \(max), or 0 for no limit")
        }
        return value == 0 ? nil : value
    }

    /// The finer one of the two wins.
    private func diskMiB(_ change: API.Configuration) throws -> Int? {
        if let disk = change.diskMiB {
            guard disk == 0 || (Limits.diskMiBMin...(1 << 30)).contains(disk) else {
                throw SpriteError(
                    .invalidRequest,
                    "invalid config: disk_mb is \(disk), use \(Limits.diskMiBMin) to \(1 << 30), or 0 for no limit")
            }
            return disk
        }
        guard let disk = change.storageGB else { return nil }
        guard (0...(1 << 20)).contains(disk) else {
            throw SpriteError(
                .invalidRequest, "invalid config: storage_gb is \(disk), use 1 to \(1 << 20), or 0 for no limit")
        }
        return disk * 1024
    }

    func wire(_ use: DiskUse, limit: UInt64?) -> API.DiskUse {
        let states = use.states.map {
            API.DiskUse.State(id: $0.checkpoint?.rawValue, bytes: $0.bytes, ownBytes: $0.ownBytes)
        }
        var wire = API.DiskUse(
            ownBytes: use.ownBytes, sharedBytes: use.sharedBytes,
            live: states.first { $0.id == nil } ?? .init(bytes: 0, ownBytes: 0),
            checkpoints: states.filter { $0.id != nil })
        wire.limitBytes = limit
        wire.countedBytes = use.countedBytes
        return wire
    }

    func checkedLabels(_ labels: [String]) throws -> [String] {
        guard labels.count <= Limits.labelCountMax else {
            throw SpriteError(
                .invalidRequest, "invalid labels: there are \(labels.count), the limit is \(Limits.labelCountMax)")
        }
        for label in labels {
            guard !label.isEmpty, label.utf8.count <= Limits.labelBytesMax, !label.utf8.contains(0) else {
                throw SpriteError(
                    .invalidRequest, "invalid labels: each has 1 to \(Limits.labelBytesMax) bytes and no NUL byte")
            }
        }
        return labels
    }

    private func checkedEnvironment(_ environment: [String: String]) throws -> [String: String] {
        let bytes = environment.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count + 2 }
        guard environment.count <= Limits.environmentVariableCountMax, bytes <= Limits.environmentBytesMax else {
            throw SpriteError(
                .invalidRequest,
                "invalid environment: it has \(environment.count) variables and \(bytes) bytes, the limits are "
                    + "\(Limits.environmentVariableCountMax) and \(Limits.environmentBytesMax)")
        }
        for (name, value) in environment {
            guard !name.isEmpty, !name.contains("="), !name.utf8.contains(0), !value.utf8.contains(0) else {
                throw SpriteError(
                    .invalidRequest,
                    "invalid environment: names must not be empty or hold '=', and nothing may hold a NUL byte")
            }
        }
        return environment
    }

    /// Nil if the request does not say; an empty text, which an old client sends, means the default.
    func urlAuthentication(_ settings: API.URLSettings?) throws -> URLAuthentication? {
        guard let auth = settings?.auth else { return nil }
        guard !auth.isEmpty else { return .sprite }
        guard let authentication = URLAuthentication(rawValue: auth) else {
            throw SpriteError(
                .invalidRequest, "invalid url_settings: auth is '\(auth.prefix(40))', use 'sprite' or 'public'")
        }
        return authentication
    }

    /// An id in a path; one that breaks the rules cannot exist.
    func checkpointID(_ text: String, of name: SpriteName) throws -> CheckpointID {
        guard let id = CheckpointID(text) else {
            throw SpriteError(
                .notFound, "there is no checkpoint '\(text.prefix(40))' of sprite '\(name)'; ids look like v3 or auto-1"
            )
        }
        return id
    }

    func execRequest(_ query: API.ExecQuery) throws -> ExecRequest {
        guard !query.command.isEmpty else {
            throw SpriteError(.invalidRequest, "invalid query: it has no 'cmd'; give one for each argument")
        }
        guard query.command.count <= Limits.execArgumentCountMax else {
            throw SpriteError(
                .invalidRequest,
                "invalid query: there are \(query.command.count) arguments, the limit is \(Limits.execArgumentCountMax)"
            )
        }
        guard query.environment.count <= Limits.execEnvironmentCountMax else {
            throw SpriteError(
                .invalidRequest,
                "invalid query: there are \(query.environment.count) variables in 'env', the limit is "
                    + "\(Limits.execEnvironmentCountMax)")
        }
        let bytes = (query.command + query.environment).reduce(0) { $0 + $1.utf8.count + 1 }
        guard bytes <= Limits.execArgumentBytesMax else {
            throw SpriteError(
                .invalidRequest,
                "invalid query: arguments and variables are \(bytes) bytes, the limit is \(Limits.execArgumentBytesMax)"
            )
        }
        guard let path = query.path ?? query.command.first, !path.isEmpty else {
            throw SpriteError(.invalidRequest, "invalid query: the name of the command is empty")
        }
        let environment = try query.environment.map { text in
            guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
                throw SpriteError(.invalidRequest, "invalid query: each 'env' is NAME=VALUE with a name")
            }
            return (name: String(text[..<equals]), value: String(text[text.index(after: equals)...]))
        }
        return ExecRequest(
            arguments: query.command, path: query.path, environment: environment, directory: query.directory,
            user: query.user, terminal: query.terminalSize, takesInput: query.takesInput ?? query.tty,
            maxRunAfterDisconnect: query.runsOnFor)
    }

    func wire(_ info: SessionInfo) -> API.Session {
        var session = API.Session(
            id: info.id, command: info.command, workdir: info.directory, created: info.createdAt.text,
            tty: info.isTerminal)
        session.lastActivity = info.lastActivityAt?.text
        return session
    }

    func wire(_ checkpoint: Checkpoint) -> API.Checkpoint {
        var wire = API.Checkpoint(id: checkpoint.id.rawValue, createTime: checkpoint.createdAt.text)
        wire.comment = checkpoint.comment
        wire.sourceID = checkpoint.source?.rawValue
        wire.isAutomatic = checkpoint.id.isAutomatic
        wire.reason = checkpoint.reason.rawValue
        wire.isPinned = checkpoint.isPinned
        wire.path = checkpoint.path
        wire.flushMilliseconds = checkpoint.flush.milliseconds
        wire.snapshotMilliseconds = checkpoint.snapshot.milliseconds
        return wire
    }
}

extension API.ExecQuery {
    fileprivate var terminalSize: TerminalSize? {
        tty ? TerminalSize(rows: UInt16(clamping: rows ?? 24), columns: UInt16(clamping: columns ?? 80)) : nil
    }

    /// How long the command may go on without a client; nil means for ever.
    fileprivate var runsOnFor: Duration? {
        if let maxRunAfterDisconnect { return maxRunAfterDisconnect == .zero ? nil : maxRunAfterDisconnect }
        return tty || detachable ? nil : .seconds(10)
    }
}

extension Timestamp {
    var text: String { API.TimeText.text(nanoseconds: nanoseconds) }
}
