// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import GRDB
import SpriteDomain

/// The flat form of an intent: `object` holds a second checkpoint, or where a new disk comes from.
struct IntentRow {
    var sprite: String
    var kind: String
    var subject = ""
    var object = ""
}

func encode(_ intent: Intent) -> IntentRow {
    switch intent {
    case .create(let sprite, let source):
        IntentRow(sprite: sprite.id.rawValue, kind: "create", object: encode(source))
    case .checkpoint(let id, let checkpoint):
        IntentRow(sprite: id.rawValue, kind: "checkpoint", subject: checkpoint.rawValue)
    case .restore(let id, let from, let replaced):
        IntentRow(sprite: id.rawValue, kind: "restore", subject: from.rawValue, object: replaced.rawValue)
    case .deleteCheckpoint(let id, let checkpoint):
        IntentRow(sprite: id.rawValue, kind: "delete-checkpoint", subject: checkpoint.rawValue)
    case .restorePath(let id, let replaced):
        IntentRow(sprite: id.rawValue, kind: "restore-path", subject: replaced.rawValue)
    case .destroy(let id):
        IntentRow(sprite: id.rawValue, kind: "destroy")
    }
}

func decodeIntent(_ row: Row) throws -> Intent {
    let sprite = try decodeSprite(row)
    let kind: String = row["kind"]
    let subject = CheckpointID(row["subject"])
    let object: String = row["object"]
    switch (kind, subject) {
    case ("create", _):
        return .create(sprite, source: try decodeSource(object))
    case ("checkpoint", .some(let checkpoint)):
        return .checkpoint(sprite.id, checkpoint)
    case ("restore", .some(let from)):
        guard let replaced = CheckpointID(object) else { break }
        return .restore(sprite.id, from: from, replaced: replaced)
    case ("delete-checkpoint", .some(let checkpoint)):
        return .deleteCheckpoint(sprite.id, checkpoint)
    case ("restore-path", .some(let replaced)):
        return .restorePath(sprite.id, replaced: replaced)
    case ("destroy", _):
        return .destroy(sprite.id)
    default:
        break
    }
    throw SpriteError(.internalError, "cannot read the registry: an intent of kind '\(kind)' is not understood")
}

private func encode(_ source: DiskSource) -> String {
    switch source {
    case .empty: "empty"
    case .checkpoint(let sprite, let checkpoint): "checkpoint \(sprite) \(checkpoint)"
    case .live(let sprite): "live \(sprite)"
    }
}

private func decodeSource(_ text: String) throws -> DiskSource {
    let words = text.split(separator: " ").map(String.init)
    switch words.count {
    case 1 where words[0] == "empty":
        return .empty
    case 2 where words[0] == "live":
        if let sprite = SpriteID(rawValue: words[1]) { return .live(sprite) }
    case 3 where words[0] == "checkpoint":
        if let sprite = SpriteID(rawValue: words[1]), let checkpoint = CheckpointID(words[2]) {
            return .checkpoint(sprite, checkpoint)
        }
    default:
        break
    }
    throw SpriteError(.internalError, "cannot read the registry: the disk source '\(text)' is not understood")
}

func decodeSprite(_ row: Row) throws -> Sprite {
    guard let id = SpriteID(rawValue: row["id"]), let source = CheckpointID(row["source"]) else {
        throw SpriteError(
            .internalError, "cannot read the registry: the sprite with id '\(row["id"] ?? "")' is damaged")
    }
    let decoder = JSONDecoder()
    let environment: String = row["environment"]
    let labels: String = row["labels"]
    let lastRunning: Int64? = row["last_running_at"]
    var sprite = Sprite(
        id: id,
        name: try SpriteName(row["name"]),
        base: try BaseName(row["base"]),
        limits: ResourceLimits(
            memoryMiB: row["memory_mib"], cpus: row["cpus"], pids: row["pids"], diskMiB: row["disk_mib"]),
        idle: IdlePolicy(
            freezeAfterSeconds: row["freeze_after_seconds"], stopAfterSeconds: row["stop_after_seconds"]),
        environment: try decoder.decode([String: String].self, from: Data(environment.utf8)),
        labels: try decoder.decode([String].self, from: Data(labels.utf8)),
        urlAuthentication: URLAuthentication(rawValue: row["url_authentication"]) ?? .sprite,
        createdAt: Timestamp(nanoseconds: row["created_at"]),
        updatedAt: Timestamp(nanoseconds: row["updated_at"]),
        lastRunningAt: lastRunning.map(Timestamp.init(nanoseconds:)),
        source: source,
        ociRuntime: row["oci_runtime"],
        nextVersion: row["next_version"],
        nextAutomatic: row["next_automatic"],
        runtimes: try (row["runtimes"] as String?).map { try RuntimesVersion($0) })
    sprite.limits.bandwidthMbit = row["bandwidth_mbit"]
    sprite.limits.connections = row["connections"]
    sprite.isEphemeral = row["is_ephemeral"]
    sprite.startsWithHost = row["starts_with_host"]
    return sprite
}

func insert(_ sprite: Sprite, state: String, _ db: Database) throws {
    var columns = try columns(of: sprite)
    columns["state"] = state
    try db.execute(
        sql: """
            INSERT INTO sprites (id, name, state, base, memory_mib, cpus, pids, disk_mib, bandwidth_mbit, connections,
                starts_with_host, freeze_after_seconds, stop_after_seconds, environment, labels, url_authentication, created_at, updated_at, last_running_at,
                source, oci_runtime, next_version, next_automatic, runtimes, is_ephemeral)
            VALUES (:id, :name, :state, :base, :memory_mib, :cpus, :pids, :disk_mib, :bandwidth_mbit, :connections,
                :starts_with_host, :freeze_after_seconds, :stop_after_seconds, :environment, :labels, :url_authentication, :created_at, :updated_at,
                :last_running_at, :source, :oci_runtime, :next_version, :next_automatic, :runtimes, :is_ephemeral)
            """,
        arguments: StatementArguments(columns))
}

/// Writes a sprite's row; a creation ends by it.
func replace(_ sprite: Sprite, _ db: Database) throws {
    try db.execute(
        sql: """
            UPDATE sprites SET name = :name, state = 'ready', base = :base, memory_mib = :memory_mib, cpus = :cpus,
                pids = :pids, disk_mib = :disk_mib, bandwidth_mbit = :bandwidth_mbit, connections = :connections, starts_with_host = :starts_with_host, freeze_after_seconds = :freeze_after_seconds,
                stop_after_seconds = :stop_after_seconds, environment = :environment, labels = :labels, url_authentication = :url_authentication,
                created_at = :created_at, updated_at = :updated_at, last_running_at = :last_running_at,
                source = :source, oci_runtime = :oci_runtime, next_version = :next_version,
                next_automatic = :next_automatic, runtimes = :runtimes
            WHERE id = :id AND state <> 'destroying'
            """,
        arguments: StatementArguments(try columns(of: sprite)))
}

private func columns(of sprite: Sprite) throws -> [String: (any DatabaseValueConvertible)?] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return [
        "id": sprite.id.rawValue,
        "name": sprite.name.rawValue,
        "base": sprite.base.rawValue,
        "memory_mib": sprite.limits.memoryMiB,
        "cpus": sprite.limits.cpus,
        "pids": sprite.limits.pids,
        "disk_mib": sprite.limits.diskMiB,
        "bandwidth_mbit": sprite.limits.bandwidthMbit,
        "connections": sprite.limits.connections,
        "starts_with_host": sprite.startsWithHost,
        "oci_runtime": sprite.ociRuntime,
        "freeze_after_seconds": sprite.idle.freezeAfterSeconds,
        "stop_after_seconds": sprite.idle.stopAfterSeconds,
        "environment": String(decoding: try encoder.encode(sprite.environment), as: UTF8.self),
        "labels": String(decoding: try encoder.encode(sprite.labels), as: UTF8.self),
        "url_authentication": sprite.urlAuthentication.rawValue,
        "created_at": sprite.createdAt.nanoseconds,
        "updated_at": sprite.updatedAt.nanoseconds,
        "last_running_at": sprite.lastRunningAt?.nanoseconds,
        "source": sprite.source.rawValue,
        "next_version": sprite.nextVersion,
        "next_automatic": sprite.nextAutomatic,
        "runtimes": sprite.runtimes.map { "\($0)" },
        "is_ephemeral": sprite.isEphemeral,
    ]
}

func decodeCheckpoint(_ row: Row) throws -> Checkpoint {
    guard let sprite = SpriteID(rawValue: row["sprite"]), let id = CheckpointID(row["id"]) else {
        throw SpriteError(.internalError, "cannot read the registry: a checkpoint row is damaged")
    }
    let source: String? = row["source"]
    var checkpoint = Checkpoint(
        sprite: sprite,
        id: id,
        createdAt: Timestamp(nanoseconds: row["created_at"]),
        comment: row["comment"],
        source: source.flatMap(CheckpointID.init),
        flush: .nanoseconds(row["flush_ns"] as Int64),
        snapshot: .nanoseconds(row["snapshot_ns"] as Int64),
        base: try (row["base"] as String?).map { try BaseName($0) })
    // A reason of a later version: kept like what somebody asked for.
    checkpoint.reason = CheckpointReason(rawValue: row["reason"]) ?? .requested
    checkpoint.isPinned = row["is_pinned"]
    checkpoint.path = row["path"]
    return checkpoint
}

func insert(_ checkpoint: Checkpoint, _ db: Database) throws {
    try db.execute(
        sql: """
            INSERT OR REPLACE INTO checkpoints
                (sprite, id, created_at, comment, source, flush_ns, snapshot_ns, reason, is_pinned, path, base)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
        arguments: [
            checkpoint.sprite.rawValue, checkpoint.id.rawValue, checkpoint.createdAt.nanoseconds, checkpoint.comment,
            checkpoint.source?.rawValue, nanoseconds(checkpoint.flush), nanoseconds(checkpoint.snapshot),
            checkpoint.reason.rawValue, checkpoint.isPinned, checkpoint.path, checkpoint.base?.rawValue,
        ])
}

func decodeResumption(_ row: Row) -> Resumption? {
    guard let restored = CheckpointID(row["restored"]), let replaced = CheckpointID(row["replaced"]) else { return nil }
    let command: String? = row["command"]
    let user: UInt32? = row["user"]
    var resumption = Resumption(restored: restored, replaced: replaced, origin: row["origin"])
    if let command, let user { resumption.followUp = FollowUp(command: command, user: user) }
    return resumption
}

func insert(_ resumption: Resumption, of sprite: String, _ db: Database) throws {
    try db.execute(
        sql: """
            INSERT OR REPLACE INTO resumptions (sprite, restored, replaced, origin, command, user)
            VALUES (?, ?, ?, ?, ?, ?)
            """,
        arguments: [
            sprite, resumption.restored.rawValue, resumption.replaced.rawValue, resumption.origin,
            resumption.followUp?.command, resumption.followUp?.user,
        ])
}

private func nanoseconds(_ duration: Duration) -> Int64 {
    let parts = duration.components
    return parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000
}
