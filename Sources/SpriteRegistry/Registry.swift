// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDB
import Glibc
import SpriteSystem
package import SpriteDomain

/// The registry in one SQLite file, in WAL mode with a synchronous commit.
package struct Registry: RegistryDriver {
    private let database: DatabaseQueue

    /// Opens or makes the file and brings its schema up to date.
    package init(path: String) throws {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = true
        configuration.busyMode = .timeout(10)
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA journal_mode = WAL")
            // What was committed survives power loss, not only a crash of the process.
            try db.execute(sql: "PRAGMA synchronous = FULL")
            // What was deleted, a secret perhaps, is overwritten.
            try db.execute(sql: "PRAGMA secure_delete = ON")
        }
        // Environments of sprites may hold secrets; SQLite gives its other files the same mode.
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if file >= 0 { close(file) }
        prepareWALIndex(ofDatabase: path)
        do {
            database = try DatabaseQueue(path: path, configuration: configuration)
            try Schema.migrator.migrate(database)
        } catch {
            throw SpriteError(.internalError, "cannot open the registry at \(path)", cause: error)
        }
    }

    package func sprites() async throws -> [Sprite] {
        try await read { db in
            try Row.fetchAll(db, sql: "SELECT * FROM sprites WHERE state = 'ready' ORDER BY name").map(decodeSprite)
        }
    }

    package func checkpoints(_ sprite: SpriteID) async throws -> [Checkpoint] {
        try await read { db in
            try Row.fetchAll(db, sql: "SELECT * FROM checkpoints WHERE sprite = ?", arguments: [sprite.rawValue])
                .map(decodeCheckpoint)
                .sorted { ($0.createdAt, $0.id.rawValue) < ($1.createdAt, $1.id.rawValue) }
        }
    }

    package func intents() async throws -> [Intent] {
        try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT intents.kind, intents.subject, intents.object, sprites.*
                    FROM intents JOIN sprites ON sprites.id = intents.sprite
                    """
            ).map(decodeIntent)
        }
    }

    package func begin(_ intent: Intent) async throws {
        try await write { db in try enter(intent, db) }
    }

    package func begin(_ intent: Intent, resuming: Resumption) async throws {
        try await write { db in
            try enter(intent, db)
            try insert(resuming, of: encode(intent).sprite, db)
        }
    }

    package func resumption(_ sprite: SpriteID) async throws -> Resumption? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM resumptions WHERE sprite = ?", arguments: [sprite.rawValue])
                .flatMap(decodeResumption)
        }
    }

    package func endResumption(_ sprite: SpriteID, replaced: CheckpointID) async throws {
        try await write { db in
            try db.execute(
                sql: "DELETE FROM resumptions WHERE sprite = ? AND replaced = ?",
                arguments: [sprite.rawValue, replaced.rawValue])
        }
    }

    private func enter(_ intent: Intent, _ db: Database) throws {
        switch intent {
        case .create(let sprite, _):
            do {
                try insert(sprite, state: "creating", db)
            } catch let error as DatabaseError where error.resultCode == .SQLITE_CONSTRAINT {
                throw SpriteError(
                    .alreadyExists,
                    "cannot create sprite: the name '\(sprite.name)' is taken; choose another or destroy it first")
            }
        case .destroy(let id):
            try setState("destroying", id, db)
            // Whatever else was under way ends with the sprite.
            try db.execute(sql: "DELETE FROM intents WHERE sprite = ?", arguments: [id.rawValue])
        case .checkpoint(let id, let checkpoint):
            // Counted at once, so that a number is never used again even if this one is abandoned.
            let counter = checkpoint.isAutomatic ? "next_automatic" : "next_version"
            try db.execute(
                sql: "UPDATE sprites SET \(counter) = \(counter) + 1 WHERE id = ?", arguments: [id.rawValue])
        case .restore(let id, _, _):
            try db.execute(
                sql: "UPDATE sprites SET next_automatic = next_automatic + 1 WHERE id = ?",
                arguments: [id.rawValue])
        case .deleteCheckpoint, .restorePath:
            break
        }
        let row = encode(intent)
        try db.execute(
            sql: "INSERT INTO intents (sprite, kind, subject, object) VALUES (?, ?, ?, ?)",
            arguments: [row.sprite, row.kind, row.subject, row.object])
    }

    package func complete(_ intent: Intent, _ outcome: Outcome) async throws {
        try await write { db in
            try remove(intent, db)
            switch outcome {
            case .written(let sprite, let checkpoint):
                if let sprite { try replace(sprite, db) }
                if let checkpoint { try insert(checkpoint, db) }
            case .removed:
                try removeSubject(of: intent, db)
            }
        }
    }

    package func abandon(_ intent: Intent) async throws {
        try await write { db in
            try remove(intent, db)
            if case .create(let sprite, _) = intent {
                try db.execute(sql: "DELETE FROM sprites WHERE id = ?", arguments: [sprite.id.rawValue])
            }
        }
    }

    package func update(_ sprite: Sprite) async throws {
        try await write { db in try replace(sprite, db) }
    }

    package func update(_ checkpoint: Checkpoint) async throws {
        try await write { db in try insert(checkpoint, db) }
    }

    package func policy(_ sprite: SpriteID, _ kind: PolicyKind) async throws -> String? {
        try await read { db in
            try String.fetchOne(
                db, sql: "SELECT body FROM policies WHERE sprite = ? AND kind = ?",
                arguments: [sprite.rawValue, kind.rawValue])
        }
    }

    package func setPolicy(_ sprite: SpriteID, _ kind: PolicyKind, _ text: String?) async throws {
        try await write { db in
            guard let text else {
                return try db.execute(
                    sql: "DELETE FROM policies WHERE sprite = ? AND kind = ?",
                    arguments: [sprite.rawValue, kind.rawValue])
            }
            try db.execute(
                sql: "INSERT OR REPLACE INTO policies (sprite, kind, body) VALUES (?, ?, ?)",
                arguments: [sprite.rawValue, kind.rawValue, text])
        }
    }

    package func tasks(_ sprite: SpriteID) async throws -> [SpriteTask] {
        try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT name, started_at, expires_at FROM tasks WHERE sprite = ?", arguments: [sprite.rawValue]
            ).map {
                SpriteTask(
                    name: $0["name"], startedAt: Timestamp(nanoseconds: $0["started_at"]),
                    expiresAt: Timestamp(nanoseconds: $0["expires_at"]))
            }
        }
    }

    package func setTask(_ sprite: SpriteID, _ task: SpriteTask) async throws {
        try await write { db in
            try db.execute(
                sql: "INSERT OR REPLACE INTO tasks (sprite, name, started_at, expires_at) VALUES (?, ?, ?, ?)",
                arguments: [sprite.rawValue, task.name, task.startedAt.nanoseconds, task.expiresAt.nanoseconds])
        }
    }

    package func removeTasks(_ sprite: SpriteID, _ names: [String]) async throws {
        try await write { db in
            for name in names {
                try db.execute(
                    sql: "DELETE FROM tasks WHERE sprite = ? AND name = ?", arguments: [sprite.rawValue, name])
            }
        }
    }

    /// Bases of every sprite, also of those that are being made or destroyed, and of every checkpoint.
    package func basesInUse() async throws -> Set<BaseName> {
        try await read { db in
            Set(
                try String.fetchAll(
                    db, sql: "SELECT base FROM sprites UNION SELECT base FROM checkpoints WHERE base NOT NULL"
                ).map { try BaseName($0) })
        }
    }

    /// Runtimes of every sprite, also of those that are being made or destroyed.
    package func runtimesInUse() throws -> Set<RuntimesVersion> {
        do {
            return try database.read { db in
                let sql = "SELECT DISTINCT runtimes FROM sprites WHERE runtimes IS NOT NULL"
                return Set(try String.fetchAll(db, sql: sql).map { try RuntimesVersion($0) })
            }
        } catch {
            throw SpriteError(.internalError, "cannot read the registry", cause: error)
        }
    }

    // MARK: Access

    func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        do {
            return try await database.read(body)
        } catch let error as SpriteError {
            throw error
        } catch {
            throw SpriteError(.internalError, "cannot read the registry", cause: error)
        }
    }

    /// In a task of its own, awaited here: a client that hangs up must not roll back the record of what was done.
    func write<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        do {
            return try await Task { [database] in try await database.write(body) }.value
        } catch let error as SpriteError {
            throw error
        } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL {
            throw SpriteError(
                .noSpace, "cannot write the registry: the data directory's filesystem is full; free some space",
                cause: error)
        } catch {
            throw SpriteError(.internalError, "cannot write the registry", cause: error)
        }
    }
}

private func setState(_ state: String, _ id: SpriteID, _ db: Database) throws {
    try db.execute(sql: "UPDATE sprites SET state = ? WHERE id = ?", arguments: [state, id.rawValue])
}

private func remove(_ intent: Intent, _ db: Database) throws {
    let row = encode(intent)
    try db.execute(
        sql: "DELETE FROM intents WHERE sprite = ? AND kind = ? AND subject = ?",
        arguments: [row.sprite, row.kind, row.subject])
}

private func removeSubject(of intent: Intent, _ db: Database) throws {
    switch intent {
    case .create(let sprite, _):
        try db.execute(sql: "DELETE FROM sprites WHERE id = ?", arguments: [sprite.id.rawValue])
    case .destroy(let id):
        try db.execute(sql: "DELETE FROM sprites WHERE id = ?", arguments: [id.rawValue])
    case .checkpoint(let id, let checkpoint), .deleteCheckpoint(let id, let checkpoint):
        try db.execute(
            sql: "DELETE FROM checkpoints WHERE sprite = ? AND id = ?",
            arguments: [id.rawValue, checkpoint.rawValue])
    case .restore, .restorePath:
        break
    }
}
